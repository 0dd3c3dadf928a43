// ceiling SOCK SIZE - what the socket and the client leave to any NBD server: one that keeps nothing.
//
// A thread for each connection takes all requests that have arrived, forgets what is written, and answers reads from one piece of
// memory that never leaves the cache, all in one sendmsg. It has no lock, no store and no faults, so that whatever keeps
// data is slower. It is for bench/run.sh alone, and trusts its client.
#define _GNU_SOURCE
#include <endian.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum { INPUT = 256 << 10, LONGEST = 32 << 20, PIECES = 512 };
static uint64_t size;
static char *zeroes;

static int get(int fd, void *to, size_t length) {
    for (char *at = to; length;) {
        ssize_t got = recv(fd, at, length, 0);
        if (got <= 0) return -1;
        at += got, length -= got;
    }
    return 0;
}

static int put(int fd, struct iovec *pieces, int count) {
    while (count) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (sent < 0) return -1;
        for (; count && (size_t)sent >= pieces->iov_len; pieces++, count--) sent -= pieces->iov_len;
        if (count) pieces->iov_base = (char *)pieces->iov_base + sent, pieces->iov_len -= sent;
    }
    return 0;
}

static int reply(int fd, uint32_t option, uint32_t kind, const void *data, uint32_t length) {
    char head[20];
    uint64_t magic = htobe64(0x3e889045565a9);
    uint32_t fields[] = {htobe32(option), htobe32(kind), htobe32(length)};
    memcpy(head, &magic, 8), memcpy(head + 8, fields, 12);
    struct iovec pieces[] = {{head, 20}, {(void *)data, length}};
    return put(fd, pieces, length ? 2 : 1);
}

// proto.md, "Fixed newstyle negotiation": GO alone, everything else is unsupported.
static int handshake(int fd) {
    char greeting[18] = "NBDMAGICIHAVEOPT", data[4096];
    greeting[17] = 3;
    uint32_t flags;
    struct iovec piece = {greeting, 18};
    if (put(fd, &piece, 1) || get(fd, &flags, 4)) return -1;
    for (;;) {
        struct { uint64_t magic; uint32_t option, length; } __attribute__((packed)) ask;
        if (get(fd, &ask, 16)) return -1;
        uint32_t option = be32toh(ask.option), length = be32toh(ask.length);
        if (length > sizeof data || get(fd, data, length)) return -1;
        if (option != 7) {
            if (reply(fd, option, 0x80000001, NULL, 0) || option == 2) return -1;
            continue;
        }
        char export[12] = {0};
        // HAS_FLAGS, SEND_FLUSH, SEND_FUA, CAN_MULTI_CONN.
        uint64_t bytes = htobe64(size);
        uint16_t can = htobe16(1 | 4 | 8 | 256);
        memcpy(export + 2, &bytes, 8), memcpy(export + 10, &can, 2);
        return reply(fd, 7, 3, export, 12) || reply(fd, 7, 1, NULL, 0);
    }
}

static void *serve(void *given) {
    int fd = (int)(intptr_t)given;
    char *input = malloc(INPUT);
    static __thread char heads[PIECES][16];
    static __thread struct iovec pieces[2 * PIECES];
    // Bytes of a payload that are to come, and the answer to it: libnbd takes none before all of its request is sent.
    size_t have = 0, skip = 0;
    char owed[16];
    if (handshake(fd)) goto end;
    for (;;) {
        ssize_t got = recv(fd, input + have, INPUT - have, 0);
        if (got <= 0) break;
        have += got;
        size_t at = 0;
        int count = 0, replies = 0;
        while (have > at) {
            if (skip) {
                size_t here = have - at < skip ? have - at : skip;
                at += here, skip -= here;
                if (skip) break;
                memcpy(heads[replies], owed, 16);
                pieces[count++] = (struct iovec){heads[replies++], 16};
                continue;
            }
            if (have - at < 28) break;
            uint16_t command;
            uint32_t length;
            memcpy(&command, input + at + 6, 2), memcpy(&length, input + at + 24, 4);
            command = be16toh(command), length = be32toh(length);
            if (command == 2 || (command == 0 && length > LONGEST)) goto end;
            uint32_t magic[] = {htobe32(0x67446698), 0};
            char *head = command == 1 && length ? owed : heads[replies];
            memcpy(head, magic, 8), memcpy(head + 8, input + at + 8, 8);
            at += 28;
            if (command == 1 && length) {
                skip = length;
                continue;
            }
            pieces[count++] = (struct iovec){head, 16}, replies++;
            if (command == 0) pieces[count++] = (struct iovec){zeroes, length};
            // One more may come from the end of a payload.
            if (replies >= PIECES - 1) {
                if (put(fd, pieces, count)) goto end;
                count = replies = 0;
            }
        }
        memmove(input, input + at, have - at), have -= at;
        if (count && put(fd, pieces, count)) break;
    }
end:
    close(fd), free(input);
    return NULL;
}

int main(int count, char **words) {
    if (count != 3) return fprintf(stderr, "ceiling SOCK SIZE\n"), 2;
    size = strtoull(words[2], NULL, 0);
    zeroes = calloc(1, LONGEST);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 16)) return perror(words[1]), 1;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        pthread_t thread;
        if (fd < 0 || pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd)) return perror("serve"), 1;
        pthread_detach(thread);
    }
}
