//! Packages by the apt of this machine, in a state of its own: nothing of the machine's is changed, and nobody has to be
//! root. Which mirrors, which keys, which proxy: as the machine has them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::error::KernelError;
use super::sources::{self, Source};

/// What apt is told besides. A machine may have it do things of its own after each update, as clean its cache up, and may
/// have it take packages that nobody signed. Backports rank as high here as releases, and what is not Debian's lower.
const CONFIGURATION: &str = r#"
#clear APT::Update;
#clear DPkg::Post-Invoke;
#clear APT::Default-Release;
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Retries "1";
"#;

const PREFERENCES: &str = "\
Package: *
Pin: release o=Debian
Pin-Priority: 900

Package: *
Pin: release o=Debian Backports
Pin-Priority: 900
";

/// A package in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// In bytes, as it is downloaded.
    pub(super) size: u64,
    /// The packages that it needs in the same version: parts of what was built at once.
    parts: Vec<String>,
}

/// An apt that knows some suites.
pub(super) struct Apt {
    directory: PathBuf,
    /// What went wrong with some of the suites.
    pub(super) unread: Option<String>,
}

impl Apt {
    /// Reads the lists of `suites` into `directory`, from where this machine or the file `instead` has its packages.
    ///
    /// # Errors
    /// There is no apt, or it knows no mirror of Debian.
    pub(super) fn update(
        directory: &Path,
        instead: Option<&Path>,
        releases: &BTreeSet<String>,
        suites: &[String],
    ) -> Result<Self, KernelError> {
        let mut apt = Self { directory: directory.to_owned(), unread: None };
        let sources = match instead {
            Some(file) => read_file(file)?,
            None => machine_sources()?,
        };
        let derived = sources::derive(&sources, releases, suites);
        if derived.is_empty() {
            let what = format!("apt has no mirror of Debian here, which is wanted for {}", suites.join(", "));
            return Err(KernelError::NoMirror { what });
        }
        apt.set_up(&derived)?;
        let output = apt.run("apt-get", &["-q", "update"])?;
        apt.unread = complaint(&output);
        Ok(apt)
    }

    /// Writes what apt reads.
    fn set_up(&self, derived: &str) -> Result<(), KernelError> {
        for directory in ["lists/partial", "cache/archives/partial", "packages"] {
            let path = self.directory.join(directory);
            fs::create_dir_all(&path).map_err(KernelError::file("create", &path))?;
        }
        let quoted = |name: &str| format!("\"{}\"", self.directory.join(name).display());
        let places = format!(
            "Dir::State {}; Dir::State::lists {}; Dir::State::status {}; Dir::Cache {};\nDir::Etc::sourcelist {}; \
             Dir::Etc::sourceparts \"/dev/null\"; Dir::Etc::preferences {}; Dir::Etc::preferencesparts \"/dev/null\";\n",
            quoted(""),
            quoted("lists/"),
            quoted("status"),
            quoted("cache/"),
            quoted("debian.sources"),
            quoted("preferences"),
        );
        let configuration = format!("{CONFIGURATION}{places}");
        for (name, text) in [
            ("apt.conf", configuration.as_str()),
            ("debian.sources", derived),
            ("preferences", PREFERENCES),
            ("status", ""),
        ] {
            let path = self.directory.join(name);
            fs::write(&path, text).map_err(KernelError::file("write", &path))?;
        }
        Ok(())
    }

    /// The newest version of a package, and all its parts.
    ///
    /// # Errors
    /// apt does not know it.
    pub(super) fn find(&self, name: &str) -> Result<Vec<Package>, KernelError> {
        let first = self.show(name)?;
        let mut wanted: Vec<String> = first.parts.clone();
        let mut found = vec![first];
        while let Some(next) = wanted.pop() {
            if !found.iter().any(|package| package.name == next) {
                let package = self.show(&format!("{next}={}", found[0].version))?;
                wanted.extend_from_slice(&package.parts);
                found.push(package);
            }
        }
        Ok(found)
    }

    fn show(&self, word: &str) -> Result<Package, KernelError> {
        let output = self.run("apt-cache", &["show", "--no-all-versions", word])?;
        parse(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
            let said = self.unread.clone().or_else(|| complaint(&output));
            KernelError::Failed {
                what: format!("finding the package {word}"),
                said: said.unwrap_or_else(|| "no mirror of this machine has it".to_owned()),
                help: "is the mirror within reach? `apt-get update` says more; without a network, `brim kernel add` \
                       where there is one and copy the directory (docs/kernels.md)"
                    .to_owned(),
            }
        })
    }

    /// Downloads and unpacks packages into a directory `name` of its own.
    ///
    /// # Errors
    /// They cannot be downloaded, or are not what apt's lists say, or cannot be unpacked.
    pub(super) fn unpack(&self, packages: &[Package], name: &str) -> Result<PathBuf, KernelError> {
        let to = self.directory.join(name);
        fs::create_dir(&to).map_err(KernelError::file("create", &to))?;
        let words: Vec<String> =
            packages.iter().map(|package| format!("{}={}", package.name, package.version)).collect();
        let mut arguments = vec!["-q", "download"];
        arguments.extend(words.iter().map(String::as_str));
        let output = self.run("apt-get", &arguments)?;
        if !output.status.success() {
            let help = "is the mirror within reach, and is there room?".to_owned();
            return Err(failed(&format!("downloading {}", words.join(", ")), &output, help));
        }
        let debs = self.directory.join("packages");
        for entry in fs::read_dir(&debs).map_err(KernelError::file("read", &debs))? {
            let deb = entry.map_err(KernelError::file("read", &debs))?.path();
            let mut command = Command::new("dpkg-deb");
            let output = run(command.arg("-x").arg(&deb).arg(&to), "dpkg-deb", NOT_DEBIAN)?;
            if !output.status.success() {
                let help = "is there room?".to_owned();
                return Err(failed(&format!("unpacking {}", deb.display()), &output, help));
            }
            fs::remove_file(&deb).map_err(KernelError::file("remove", &deb))?;
        }
        Ok(to)
    }

    /// Runs a program of apt in the directory for packages.
    fn run(&self, program: &'static str, arguments: &[&str]) -> Result<Output, KernelError> {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.directory.join("apt.conf")).args(arguments);
        command.current_dir(self.directory.join("packages"));
        run(&mut command, program, NOT_DEBIAN)
    }
}

const NOT_DEBIAN: &str = "this is no Debian: give `--kernel` the path of a kernel, or copy what `brim kernel add` brought \
                          to a machine that is one (docs/kernels.md)";

/// Runs a program, with its words in English and nobody to ask.
///
/// # Errors
/// It is not there.
pub(super) fn run(
    command: &mut Command,
    program: &'static str,
    help: &'static str,
) -> Result<Output, KernelError> {
    command.env("LC_ALL", "C").stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => KernelError::NoProgram { program, help },
        _ => KernelError::File { what: "start", path: program.into(), source: error },
    })
}

/// The error of a program that said why.
pub(super) fn failed(what: &str, output: &Output, help: String) -> KernelError {
    let said = complaint(output).unwrap_or_else(|| output.status.to_string());
    KernelError::Failed { what: what.to_owned(), said, help }
}

/// The first error in what a program said.
fn complaint(output: &Output) -> Option<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    // Of a mirror that is out of reach, `apt-get update` only warns.
    let is_one = |line: &&str| line.starts_with("E:") || line.contains("rror") || line.contains("ailed");
    let line = said.lines().find(is_one);
    let line = line.or_else(|| said.lines().next().filter(|_| !output.status.success()));
    line.map(|line| line.trim_start_matches("E:").trim_start_matches("W:").trim().to_owned())
}

/// All that this machine's apt has for sources.
fn machine_sources() -> Result<Vec<Source>, KernelError> {
    let mut command = Command::new("apt-config");
    command.args(["shell", "FILE", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"]);
    let output = run(&mut command, "apt-config", NOT_DEBIAN)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut files = Vec::new();
    for word in text.lines().filter_map(|line| line.split_once('=')).map(|(_, path)| path.trim_matches('\''))
    {
        match fs::read_dir(word) {
            Ok(entries) => files.extend(entries.filter_map(|entry| Some(entry.ok()?.path()))),
            Err(_) => files.push(PathBuf::from(word)),
        }
    }
    files.sort();
    // apt itself reads no other names, and one file that is wrong is not for us to tell.
    let is_one = |path: &&PathBuf| path.extension().is_some_and(|name| name == "list" || name == "sources");
    Ok(files.iter().filter(is_one).filter_map(|path| read_file(path).ok()).flatten().collect())
}

fn read_file(path: &Path) -> Result<Vec<Source>, KernelError> {
    let text = fs::read_to_string(path).map_err(KernelError::file("read", path))?;
    if path.extension().is_some_and(|name| name == "list") {
        return Ok(sources::lines(&text));
    }
    let wrong =
        |why| KernelError::NoMirror { what: format!("{} is no file of sources: {why}", path.display()) };
    sources::paragraphs(&text).map_err(wrong)
}

/// A package as `apt-cache show` shows it.
fn parse(text: &str) -> Option<Package> {
    let file: deb822_fast::Deb822 = text.parse().ok()?;
    let paragraph = file.iter().next()?;
    let (name, version) = (paragraph.get("Package")?, paragraph.get("Version")?);
    let exactly = format!("(= {version})");
    let depends = paragraph.get("Depends").unwrap_or_default().split(',');
    let parts =
        depends.filter_map(|one| one.trim().strip_suffix(&exactly)).map(|name| name.trim().to_owned());
    Some(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        size: paragraph.get("Size").and_then(|size| size.parse().ok()).unwrap_or(0),
        parts: parts.filter(|name| !name.contains('|')).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUB: &str = "\
Package: linux-image-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Depends: dracut | initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool, linux-base-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), other (= 7.3.4-1)
Size: 1928
Description: Linux
 of several lines
";

    #[test]
    fn parts_are_what_is_needed_in_the_same_version() {
        let package = parse(STUB).unwrap();
        assert_eq!((package.version.as_str(), package.size), ("7.3.4-1~bpo13+1", 1928));
        let parts = ["linux-base-7.3.4+deb13-cloud-amd64", "linux-binary-7.3.4+deb13-cloud-amd64"];
        assert_eq!(package.parts, parts);
        assert_eq!(parse(""), None);
    }
}
