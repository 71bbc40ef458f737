//! Small text files of the network: the one that names the resolvers, the one that names hosts. Read and written whole.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::OTHER;

/// Larger files are not touched, bytes.
const MOST: u64 = 16 << 10;
/// As many resolvers as the C library takes.
pub const RESOLVERS: usize = 3;

/// The text; none where there is no such file, it is too large, or no text.
pub(super) fn read(path: &Path) -> Option<String> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let file = fs::File::open(path).ok()?;
    file.take(MOST + 1).read_to_string(&mut text).ok()?;
    (text.len() as u64 <= MOST).then_some(text)
}

/// Puts a text in the place of another one, in one step where the file system allows that.
pub(super) fn replace(path: &Path, before: Option<&str>, after: Option<&str>) -> io::Result<()> {
    // Who wrote a link meant what it leads to.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if read(&path).as_deref() != before || (before.is_none() && path.exists()) {
        return Err(io::Error::other(OTHER));
    }
    let Some(after) = after else {
        return fs::remove_file(&path);
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".smart-monitor");
    let new = path.with_file_name(name);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&new)?;
        file.write_all(after.as_bytes())?;
        match fs::metadata(&path) {
            Ok(old) => {
                file.set_permissions(old.permissions())?;
                std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
            Err(_) => file.set_permissions(fs::Permissions::from_mode(0o644))?,
        }
        file.sync_all()?;
        fs::rename(&new, &path)
    })();
    if written.is_ok() {
        return Ok(());
    }
    let _ = fs::remove_file(&new);
    // A file that is mounted on its own can only be written to.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    file.write_all(after.as_bytes())?;
    file.sync_all()
}

/// What a person has to do to a text for it to lose what `before` has and `after` has not, and the other way round, as the end of a
/// sentence; empty where that is so already. Comments do not count.
pub(super) fn by_hand(found: &str, before: &str, after: &str) -> String {
    let has = |text: &str, line: &str| text.lines().any(|other| other.trim() == line);
    let lines = |text: &str, out: &str, there: bool| -> Vec<String> {
        let all = text.lines().map(str::trim);
        let all = all.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let own = all.filter(|line| !has(out, line) && has(found, line) == there);
        own.map(|line| format!("`{line}`")).collect()
    };
    let mut said = String::new();
    for (verb, lines) in [
        ("remove", lines(before, after, true)),
        ("put back", lines(after, before, false)),
    ] {
        if !lines.is_empty() {
            let s = if lines.len() == 1 { "" } else { "s" };
            let named = lines.join(", ");
            // A text takes what is written to it.
            let _ = write!(said, "; {verb} the line{s} {named} by hand");
        }
    }
    said
}

/// The resolvers that a text names, in their order.
pub fn resolvers(text: &str) -> Vec<IpAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let name = (words.next() == Some("nameserver")).then(|| words.next())??;
        // A link-local address has its device after a `%`, which is not followed here.
        name.parse().ok()
    });
    named.take(RESOLVERS).collect()
}

/// The text with these resolvers before the others.
pub fn with_resolvers(text: &str, first: &[IpAddr]) -> String {
    let mut all: Vec<IpAddr> = first.to_vec();
    all.extend(
        resolvers(text)
            .into_iter()
            .filter(|known| !first.contains(known)),
    );
    let mut out = String::from("# smart-monitor: backup resolvers first\n");
    for resolver in all.iter().take(RESOLVERS) {
        out.push_str("nameserver ");
        out.push_str(&resolver.to_string());
        out.push('\n');
    }
    for line in text.lines() {
        let named = line.split_ascii_whitespace().next() == Some("nameserver");
        if !named && !line.starts_with("# smart-monitor: ") {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// The address that a text says a name to have, of those that are asked about.
pub fn host<'a>(
    text: &str,
    name: &str,
    of: &'a [std::net::SocketAddr],
) -> Option<&'a std::net::SocketAddr> {
    text.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        let named = words.any(|word| word == name);
        of.iter().find(|it| named && it.ip() == address)
    })
}

/// The text, saying that a name has this address and no other.
pub fn with_host(text: &str, name: &str, address: IpAddr) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let words = line.split('#').next().unwrap_or_default();
        let mut words = words.split_ascii_whitespace();
        let own = words.next().unwrap_or_default();
        let names: Vec<&str> = words.collect();
        if !names.contains(&name) {
            out.push_str(line);
            out.push('\n');
        } else if names.len() > 1 {
            let others: Vec<&str> = names.into_iter().filter(|other| *other != name).collect();
            out.push_str(own);
            out.push(' ');
            out.push_str(&others.join(" "));
            out.push('\n');
        }
    }
    let line = format!("{address} {name} # smart-monitor: backup\n");
    out.push_str(&line);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_put_first_and_the_rest_is_kept() {
        let text = "# mine\nsearch example.org\nnameserver 10.0.0.1\nnameserver fd00::1\noptions ndots:2\n";
        let first: IpAddr = "10.0.0.9".parse().expect("an address");
        let new = with_resolvers(text, &[first]);
        let names: Vec<String> = resolvers(&new).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["10.0.0.9", "10.0.0.1", "fd00::1"]);
        assert!(new.contains("search example.org\n") && new.contains("options ndots:2\n"));
        assert_eq!(with_resolvers(&new, &[first]), new, "twice is once");
        assert!(resolvers("nameserver\nnameserver x\nNameserver 1.1.1.1\n").is_empty());
    }

    #[test]
    fn a_name_has_one_address_and_others_keep_theirs() {
        let of: Vec<std::net::SocketAddr> = ["10.0.0.5:80", "10.0.0.6:80"]
            .iter()
            .filter_map(|it| it.parse().ok())
            .collect();
        let text = "127.0.0.1 localhost\n10.0.0.5 api other\n10.0.0.7 third\n";
        assert_eq!(host(text, "api", &of), of.first());
        let new = with_host(text, "api", of[1].ip());
        assert_eq!(host(&new, "api", &of), of.get(1));
        assert!(new.contains("10.0.0.7 third\n") && new.contains("10.0.0.5 other\n"));
    }

    #[test]
    fn what_a_person_has_to_do_is_said_line_by_line() {
        let was = "nameserver 10.0.0.1\n";
        let wrote = with_resolvers(was, &["10.0.0.9".parse().expect("an address")]);
        let edited = format!("{wrote}search example.org\n");
        assert_eq!(
            by_hand(&edited, &wrote, was),
            "; remove the line `nameserver 10.0.0.9` by hand"
        );
        let another = "nameserver 10.0.0.2\n";
        assert_eq!(by_hand(another, &wrote, was), "", "nothing of ours is left");
        let hosts = "10.0.0.5 api\n";
        let address = "10.0.0.6".parse().expect("an address");
        let wrote = with_host(hosts, "api", address);
        assert_eq!(
            by_hand(&format!("{wrote}10.0.0.8 new\n"), &wrote, hosts),
            "; remove the line `10.0.0.6 api # smart-monitor: backup` by hand; put back the line `10.0.0.5 api` by hand"
        );
    }

    #[test]
    fn a_file_that_was_written_to_meanwhile_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("sm-files-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("resolv.conf");
        replace(&path, None, Some("a\n")).expect("there is none");
        replace(&path, None, Some("b\n")).expect_err("there is one");
        replace(&path, Some("x\n"), Some("b\n")).expect_err("it is another");
        let link = folder.join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        replace(&link, Some("a\n"), Some("b\n")).expect("it leads there");
        assert_eq!(read(&path).as_deref(), Some("b\n"));
        assert!(
            fs::symlink_metadata(&link)
                .expect("it is there")
                .is_symlink()
        );
        replace(&path, Some("b\n"), None).expect("it is there");
        assert_eq!(read(&path), None);
        fs::remove_dir_all(&folder).expect("it is ours");
    }
}
