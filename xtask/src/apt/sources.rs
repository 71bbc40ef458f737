//! The Debian mirrors that this machine's own apt sources name, in both formats: deb822 (`*.sources`) and one line an
//! entry (`*.list`). Third-party archives and archives of updates are left out: they hold no other suite.

use std::fs;
use std::path::Path;

/// Suites of Debian's main archive that a machine may follow, besides the name of its own release.
const SUITES: [&str; 8] = [
    "stable",
    "oldstable",
    "testing",
    "unstable",
    "sid",
    "bookworm",
    "trixie",
    "forky",
];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    uri: String,
    /// The keyring that the machine trusts this mirror's signatures by.
    signed_by: Option<String>,
}

impl Mirror {
    /// One entry of a sources.list. Options that switch checks off are never taken over.
    pub(super) fn line(&self, suite: &str) -> String {
        let keyring = self
            .signed_by
            .clone()
            .or_else(|| Path::new(KEYRING).is_file().then(|| KEYRING.to_owned()));
        let options = keyring
            .map(|keyring| format!("[signed-by={keyring}] "))
            .unwrap_or_default();
        format!("deb {options}{} {suite} main\n", self.uri)
    }
}

pub(super) fn of_machine(folder: &Path) -> Vec<Mirror> {
    let own = own_suite();
    let mut files = vec![folder.join("sources.list")];
    let parts = fs::read_dir(folder.join("sources.list.d"))
        .into_iter()
        .flatten();
    files.extend(parts.filter_map(|entry| Some(entry.ok()?.path())));
    let mut mirrors: Vec<Mirror> = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let entries = match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => deb822(&text),
            Some("list") => one_line(&text),
            _ => continue,
        };
        for mirror in entries
            .into_iter()
            .filter_map(|entry| entry.mirror(own.as_deref()))
            .flatten()
        {
            if !mirrors.contains(&mirror) {
                mirrors.push(mirror);
            }
        }
    }
    mirrors
}

/// The name of the machine's own release.
pub(super) fn own_suite() -> Option<String> {
    codename(&fs::read_to_string("/etc/os-release").ok()?)
}

fn codename(os_release: &str) -> Option<String> {
    let value = os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(value.trim_matches('"').to_owned())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    binary: bool,
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

impl Entry {
    fn mirror(self, own: Option<&str>) -> Option<Vec<Mirror>> {
        let of_debian = |suite: &String| SUITES.contains(&suite.as_str()) || own == Some(suite);
        let fits = self.binary
            && self.components.iter().any(|c| c == "main")
            && self.suites.iter().any(of_debian);
        let signed_by = self.signed_by;
        let fetchable = |uri: &String| !uri.starts_with("cdrom:");
        fits.then(|| {
            let uris = self.uris.into_iter().filter(fetchable);
            uris.map(|uri| Mirror {
                uri,
                signed_by: signed_by.clone(),
            })
            .collect()
        })
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A key block given in place of a file is left out: the machine's keyring stands in for it.
fn keyring(text: &str) -> Option<String> {
    if text.contains("BEGIN PGP") {
        return None;
    }
    text.split([',', ' '])
        .map(str::trim)
        .find(|path| path.starts_with('/'))
        .map(str::to_owned)
}

fn deb822(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in stanza {
            // A line that starts with a space continues the field above.
            if let (true, Some((_, value))) = (line.starts_with([' ', '\t']), fields.last_mut()) {
                value.push(' ');
                value.push_str(line.trim());
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let field = |name: &str| {
            fields
                .iter()
                .find(|(n, _)| n == name)
                .map_or("", |(_, value)| value.as_str())
        };
        if field("enabled").eq_ignore_ascii_case("no") || field("uris").is_empty() {
            continue;
        }
        entries.push(Entry {
            binary: words(field("types")).iter().any(|kind| kind == "deb"),
            uris: words(field("uris")),
            suites: words(field("suites")),
            components: words(field("components")),
            signed_by: keyring(field("signed-by")),
        });
    }
    entries
}

/// `deb [signed-by=FILE arch=amd64] URI SUITE COMPONENT...`
fn one_line(text: &str) -> Vec<Entry> {
    text.lines()
        .filter_map(|line| one_entry(line.split('#').next()?))
        .collect()
}

fn one_entry(line: &str) -> Option<Entry> {
    let (kind, rest) = line.trim().split_once(char::is_whitespace)?;
    let (options, rest) = match rest.trim_start().strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Entry {
        binary: kind == "deb",
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: options
            .split_whitespace()
            .find_map(|option| keyring(option.strip_prefix("signed-by=")?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "http://mirror.example/debian";

    fn mirrors(entries: Vec<Entry>) -> Vec<Mirror> {
        entries
            .into_iter()
            .filter_map(|entry| entry.mirror(Some("bookworm")))
            .flatten()
            .collect()
    }

    fn mirror(signed_by: Option<&str>) -> Mirror {
        Mirror {
            uri: URI.into(),
            signed_by: signed_by.map(str::to_owned),
        }
    }

    #[test]
    fn reads_deb822() {
        let text = "# made by the installer\nTypes: deb deb-src\n# a comment inside\nURIs: http://mirror.example/debian\n\
            Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /keys/archive.gpg\n\n\
            Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n\n\
            Types: deb\nURIs: http://vendor.example/\nSuites: nodistro\nComponents: main\n\n\
            Enabled: no\nTypes: deb\nURIs: http://off.example/\nSuites: bookworm\nComponents: main\n";
        assert_eq!(mirrors(deb822(text)), [mirror(Some("/keys/archive.gpg"))]);
    }

    #[test]
    fn a_key_block_is_no_keyring() {
        let text = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n \
            -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n /mDMEZ\n -----END PGP PUBLIC KEY BLOCK-----\n";
        assert_eq!(mirrors(deb822(text)), [mirror(None)]);
    }

    #[test]
    fn reads_one_line_entries() {
        let text = "deb [arch=amd64 signed-by=/keys/archive.gpg] http://mirror.example/debian bookworm main contrib # own\n\
            deb-src http://source.example/debian bookworm main\n# deb http://off.example/debian bookworm main\n\
            deb http://vendor.example/apt tool-bookworm main\ndeb cdrom:[disc]/ bookworm main\n";
        assert_eq!(mirrors(one_line(text)), [mirror(Some("/keys/archive.gpg"))]);
        assert_eq!(
            mirrors(one_line("deb http://mirror.example/debian bookworm main")),
            [mirror(None)]
        );
    }

    #[test]
    fn a_line_never_switches_checks_off() {
        let entries =
            one_line("deb [trusted=yes signed-by=/k.gpg] http://mirror.example/debian sid main");
        let line = mirrors(entries).first().map(|mirror| mirror.line("forky"));
        assert_eq!(
            line.as_deref(),
            Some("deb [signed-by=/k.gpg] http://mirror.example/debian forky main\n")
        );
    }

    #[test]
    fn reads_the_release_name() {
        assert_eq!(
            codename("ID=debian\nVERSION_CODENAME=trixie\n").as_deref(),
            Some("trixie")
        );
        assert_eq!(codename("ID=other\n"), None);
    }
}
