// The usual way to try `btrfs/fallocate-then-pwrite`: for each trial mkfs, mount, fill to the exact block, run the loop, umount.
// On a loop device over a file in tmpfs, with direct I/O. Everything but mkfs.btrfs is done in this process, without a shell: as
// fast as somebody would write it who writes it for speed.
//
//   cc -O2 -o usual bench/usual.c && sudo ./usual DIR COUNT FIRST STEP
//   ./usual fill MOUNT BLOCKS; ./usual steps MOUNT RECORD      the same parts, for a script that does the rest
//
// DIR is an empty directory in a tmpfs. The grid is that of configs/campaigns/free-space-and-records.toml: free blocks 0 to 200 by 17 records
// from 4096 B in steps of 16000 B; tried are COUNT cells from number FIRST on, STEP apart. Prints a line for each trial and the
// rate.
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <linux/falloc.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/btrfs.h>

enum { SIZE = 128 << 20, BLOCK = 4096, RECORDS = 17, RECORD_MIN = 4096, RECORD_STEP = 16000 };

static char directory[4096], image[4200], mountpoint[4200], device[64];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int loop_over(const char *path) {
    int file = open(path, O_RDWR), control = open("/dev/loop-control", O_RDWR);
    if (file < 0 || control < 0) err(1, "open");
    for (int tries = 0; tries < 100; tries++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        snprintf(device, sizeof device, "/dev/loop%d", number);
        int loop = open(device, O_RDWR);
        struct loop_config config = {.fd = file, .block_size = 512};
        config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
        if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) == 0) {
            close(file);
            close(control);
            return loop;
        }
        if (loop >= 0) close(loop);
    }
    errx(1, "no loop device");
}

static void mkfs(void) {
    pid_t child = fork();
    if (child == 0) {
        // Its advice about old defaults.
        int nowhere = open("/dev/null", O_WRONLY);
        dup2(nowhere, 1);
        dup2(nowhere, 2);
        execlp("mkfs.btrfs", "mkfs.btrfs", "--quiet", "--force", "--nodiscard", device, NULL);
        _exit(127);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) errx(1, "mkfs.btrfs: %d", status);
}

static long long counter(int counters, const char *name) {
    char text[64] = "";
    int file = openat(counters, name, O_RDONLY);
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) < 0) err(1, "%s", name);
    close(file);
    return atoll(text);
}

static long long data_free(int counters) {
    return counter(counters, "total_bytes") - counter(counters, "bytes_used") - counter(counters, "bytes_may_use") -
           counter(counters, "bytes_reserved") - counter(counters, "bytes_pinned") - counter(counters, "bytes_readonly") -
           counter(counters, "bytes_zone_unusable");
}

static int open_counters(int root) {
    struct btrfs_ioctl_fs_info_args info = {0};
    if (ioctl(root, BTRFS_IOC_FS_INFO, &info) < 0) err(1, "BTRFS_IOC_FS_INFO");
    char path[200];
    int at = snprintf(path, sizeof path, "/sys/fs/btrfs/");
    for (int i = 0; i < 16; i++) {
        at += snprintf(path + at, sizeof path - at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", info.fsid[i]);
    }
    snprintf(path + at, sizeof path - at, "/allocation/data");
    int counters = open(path, O_RDONLY | O_DIRECTORY);
    if (counters < 0) err(1, "%s", path);
    return counters;
}

// All space into chunks, and then exactly as much taken as leaves `wanted`.
static void fill(int root, int counters, long long wanted) {
    int file = openat(root, "ballast", O_RDWR | O_CREAT | O_EXCL, 0600);
    long long offset = 0;
    for (long long step = 16 << 20; step >= BLOCK;) {
        if (fallocate(file, 0, offset, step) == 0) offset += step;
        else if (errno == ENOSPC) step /= 2;
        else err(1, "fallocate");
    }
    fsync(file);
    close(file);
    unlinkat(root, "ballast", 0);
    syncfs(root);
    syncfs(root);
    file = openat(root, "ballast", O_RDWR | O_CREAT | O_EXCL, 0600);
    syncfs(root);
    if (fallocate(file, 0, 0, data_free(counters) - wanted) < 0) err(1, "fallocate the ballast");
    fsync(file);
    close(file);
    syncfs(root);
    long long left = data_free(counters);
    if (left != wanted) errx(1, "%lld bytes are free, not %lld", left, wanted);
}

// What the scenario does: until ENOSPC. Which step it came from.
static const char *steps(int root, size_t record, const char *data) {
    int file = openat(root, "blob", O_RDWR | O_CREAT, 0600);
    const char *failed = NULL;
    for (off_t i = 0; failed == NULL; i++) {
        off_t offset = i * (off_t)record;
        if (fallocate(file, FALLOC_FL_KEEP_SIZE, offset, record) < 0) failed = "fallocate";
        for (size_t done = 0; failed == NULL && done < record;) {
            ssize_t written = pwrite(file, data + done, record - done, offset + done);
            if (written < 0) failed = "pwrite";
            else done += written;
        }
        if (failed == NULL && fsync(file) < 0) failed = "fsync";
    }
    if (errno != ENOSPC) err(1, "%s", failed);
    close(file);
    return failed;
}

int main(int argc, char **argv) {
    if (argc == 4) {
        int root = open(argv[2], O_RDONLY | O_DIRECTORY);
        if (root < 0) err(1, "%s", argv[2]);
        if (strcmp(argv[1], "fill") == 0) {
            fill(root, open_counters(root), atoll(argv[3]) * BLOCK);
            return 0;
        }
        size_t record = atoll(argv[3]);
        char *bytes = malloc(record);
        if (bytes == NULL || getrandom(bytes, record, 0) < 0) err(1, "getrandom");
        puts(steps(root, record, bytes));
        return 0;
    }
    if (argc != 5) errx(2, "usage: usual DIR COUNT FIRST STEP");
    snprintf(directory, sizeof directory, "%s", argv[1]);
    snprintf(image, sizeof image, "%s/image", directory);
    snprintf(mountpoint, sizeof mountpoint, "%s/mount", directory);
    int count = atoi(argv[2]), first = atoi(argv[3]), step = atoi(argv[4]);
    // Nobody who copies the machine's mounts meanwhile is to hold ours.
    if (unshare(CLONE_NEWNS) < 0 || mount("", "/", "", MS_PRIVATE | MS_REC, NULL) < 0) err(1, "unshare");
    mkdir(mountpoint, 0700);
    static char data[RECORD_MIN + RECORDS * RECORD_STEP];
    double began = now();
    for (int trial = 0; trial < count; trial++) {
        int cell = first + trial * step;
        long long blocks = cell / RECORDS;
        size_t record = RECORD_MIN + (size_t)(cell % RECORDS) * RECORD_STEP;
        // What is left of the last trial is not to be in memory, nor on the disk.
        int file = open(image, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (file < 0 || ftruncate(file, SIZE) < 0) err(1, "%s", image);
        close(file);
        int loop = loop_over(image);
        mkfs();
        if (mount(device, mountpoint, "btrfs", MS_NODEV | MS_NOSUID, "") < 0) err(1, "mount");
        int root = open(mountpoint, O_RDONLY | O_DIRECTORY);
        int counters = open_counters(root);
        fill(root, counters, blocks * BLOCK);
        if (getrandom(data, record, 0) < 0) err(1, "getrandom");
        printf("%lld blocks, %zu B: %s\n", blocks, record, steps(root, record, data));
        close(counters);
        close(root);
        if (umount(mountpoint) < 0) err(1, "umount");
        close(loop);
    }
    double seconds = now() - began;
    fprintf(stderr, "%d trials in %.2f s: %.1f a second\n", count, seconds, count / seconds);
    return 0;
}
