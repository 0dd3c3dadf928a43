//! Where this machine's apt gets Debian from, and the same for another release (sources.list(5), apt 2.6).

use std::collections::BTreeSet;
use std::fmt::Write;

/// One place that packages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// The keys that sign it, as they are written: paths, fingerprints, or a key itself on lines of their own.
    signed_by: Option<String>,
}

/// Releases of Debian as people write them who do not write a name.
const WORDS: [&str; 5] = ["oldoldstable", "oldstable", "stable", "testing", "unstable"];

/// What follows the name of a release in the suites that Debian itself has.
const POCKETS: [&str; 5] = ["", "-updates", "-backports", "-proposed-updates", "-backports-sloppy"];

/// Reads a file of paragraphs (`*.sources`).
///
/// # Errors
/// What is wrong with the file.
pub(super) fn paragraphs(text: &str) -> Result<Vec<Source>, String> {
    let file: deb822_fast::Deb822 = text.parse().map_err(|error: deb822_fast::Error| error.to_string())?;
    let mut sources = Vec::new();
    for paragraph in file.iter() {
        let list = |name| paragraph.get(name).map(words).unwrap_or_default();
        let is_off = paragraph.get("Enabled").is_some_and(|word| ["no", "false", "off", "0"].contains(&word));
        if list("Types").iter().any(|kind| kind == "deb") && !is_off {
            sources.push(Source {
                uris: list("URIs"),
                suites: list("Suites"),
                components: list("Components"),
                signed_by: paragraph.get("Signed-By").map(ToOwned::to_owned),
            });
        }
    }
    Ok(sources)
}

/// Reads a file with a source a line (`*.list`).
pub(super) fn lines(text: &str) -> Vec<Source> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut parts = words(rest).into_iter();
    let (uri, suite) = (parts.next()?, parts.next()?);
    let keys = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    Some(Source {
        uris: vec![uri],
        suites: vec![suite],
        components: parts.collect(),
        signed_by: keys.map(|keys| keys.replace(',', " ")),
    })
}

/// What apt is to read for `suites`, out of what this machine reads: from the same mirrors, signed by the same keys.
/// `releases` are the names of Debian's releases. Empty where this machine has no mirror of Debian.
pub(super) fn derive(sources: &[Source], releases: &BTreeSet<String>, suites: &[String]) -> String {
    let mut derived = String::new();
    for suite in suites {
        let is_security = suite.ends_with("-security");
        for source in sources {
            if source.has_main() && source.suites.iter().any(|theirs| is_like(theirs, releases, is_security))
            {
                source.derive(suite, &mut derived);
            }
        }
    }
    derived
}

impl Source {
    /// Other archives call their suites after Debian's releases as well; few of them have a part `main`.
    fn has_main(&self) -> bool {
        self.components.iter().any(|component| component == "main")
    }

    /// Adds the same for another suite. `[trusted=yes]` and its like are not taken over: what is not signed is not used.
    fn derive(&self, suite: &str, derived: &mut String) {
        for uri in self.uris.iter().filter(|uri| !uri.starts_with("cdrom:")) {
            // Nothing is wanted but the lists of packages: no translations, no icons.
            let _ = write!(
                derived,
                "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nArchitectures: amd64\nLanguages: none\n\
                 Targets: Packages\n"
            );
            if let Some(keys) = &self.signed_by {
                let _ = writeln!(derived, "Signed-By: {}", keys.replace('\n', "\n "));
            }
            derived.push('\n');
        }
    }
}

/// Whether a suite is one of Debian's own: of its security archive, or of the other.
fn is_like(suite: &str, releases: &BTreeSet<String>, is_security: bool) -> bool {
    let names = releases.iter().map(String::as_str).chain(WORDS);
    let pockets: &[&str] = if is_security { &["-security", "/updates"] } else { &POCKETS };
    names.into_iter().any(|name| suite.strip_prefix(name).is_some_and(|pocket| pockets.contains(&pocket)))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAGRAPHS: &str = "\
# The mirror of this house.
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
# A comment within.
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEYCQjIxYJKwYBBAHaRw8BAQdAD
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no
";

    const LINES: &str = "\
# deb http://off.example/debian bookworm main
deb [arch=amd64 signed-by=/a.gpg,/b.gpg] http://mirror.example/debian bookworm main contrib # ours
deb-src http://mirror.example/debian bookworm main
deb\thttp://mirror.example/debian-security/ stable/updates main
deb [trusted=yes] http://other.example/apt bookworm stable
deb http://postgres.example/ bookworm-pgdg main
deb cdrom:[Debian]/ bookworm main
";

    fn derived(sources: &[Source], suites: &[&str]) -> String {
        let names = ["bookworm", "trixie", "sid"].map(ToOwned::to_owned).into();
        derive(sources, &names, &suites.iter().map(|suite| (*suite).to_owned()).collect::<Vec<_>>())
    }

    fn stanza(uri: &str, suite: &str, keys: &str) -> String {
        format!(
            "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nArchitectures: amd64\nLanguages: none\n\
             Targets: Packages\n{keys}\n"
        )
    }

    #[test]
    fn another_suite_comes_from_the_same_mirror_with_the_same_keys() {
        let sources = paragraphs(PARAGRAPHS).unwrap();
        assert_eq!(sources.len(), 2);
        let keys = "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
        let main = stanza("http://mirror.example/debian", "trixie", keys);
        assert_eq!(derived(&sources, &["trixie"]), main);
        let both = derived(&sources, &["trixie", "trixie-security"]);
        let security = both.strip_prefix(&main).unwrap();
        assert!(
            security.starts_with("Types: deb\nURIs: http://mirror.example/debian-security\n"),
            "{security}"
        );
        let key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEYCQjIxYJKwYBBAHaRw8BAQdAD\n -----END";
        assert!(security.contains(key), "{security}");
    }

    #[test]
    fn a_file_with_a_source_a_line_says_the_same() {
        let sources = lines(LINES);
        let main = stanza("http://mirror.example/debian", "sid", "Signed-By: /a.gpg /b.gpg\n");
        assert_eq!(derived(&sources, &["sid"]), main);
        let security = stanza("http://mirror.example/debian-security/", "trixie-security", "");
        assert_eq!(derived(&sources, &["trixie-security"]), security);
        assert!(!derived(&sources, &["trixie"]).contains("rusted"));
    }

    #[test]
    fn a_machine_without_a_mirror_of_debian_has_nothing_to_derive_from() {
        let ubuntu =
            lines("deb http://mirror.example/ubuntu noble main\ndeb http://x.example noble-security main\n");
        assert_eq!(derived(&ubuntu, &["trixie", "trixie-security"]), "");
        assert_eq!(derived(&[], &["trixie"]), "");
    }
}
