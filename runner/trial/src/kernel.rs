//! Kernel releases, compared as versions.

use semver::Version;
pub use semver::VersionReq as Requirement;

/// The version in a kernel release as `uname -r` prints it: the `6.18.44` of `6.18.44-fc-v595`.
/// Missing parts are 0; `None` where the text does not begin with a number.
#[must_use]
pub fn version(release: &str) -> Option<Version> {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    let mut parts = release[..end].split('.').map(|part| part.parse().ok());
    let major = parts.next()??;
    let minor = parts.next().flatten().unwrap_or(0);
    let patch = parts.next().flatten().unwrap_or(0);
    Some(Version::new(major, minor, patch))
}

/// Whether the kernel `release` meets `requirement`; one that cannot be read meets only `*`.
#[must_use]
pub fn meets(release: &str, requirement: &Requirement) -> bool {
    match version(release) {
        Some(version) => requirement.matches(&version),
        None => *requirement == Requirement::STAR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_compare_as_versions() {
        let since = Requirement::parse(">= 6.13").unwrap();
        assert!(meets("6.18.44-fc-v595", &since));
        assert!(meets("7.3-rc1", &since));
        assert!(!meets("6.12.107+deb13-cloud-amd64", &since));
        assert!(!meets("5.10.0-30-amd64", &since));
        assert_eq!(version("next-20260101"), None);
    }
}
