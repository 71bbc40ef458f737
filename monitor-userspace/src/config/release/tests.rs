use std::path::Path;

use crate::config::Config;
use crate::model::Releases;
use crate::model::release::Source;

fn parse(lines: &str) -> Result<Releases, String> {
    let text = format!(
        "[[service]]\nname = \"shop\"\nkind = \"command\"\ncommand = [\"shop\"]\n[service.release]\n{lines}\n"
    );
    let config = Config::parse(&text, Path::new("test.toml"));
    let mut config = config.map_err(|error| error.render())?;
    let release = config.services.remove(0).release;
    Ok(release.expect("it is there").how)
}

#[test]
fn every_kind_reads_and_has_its_defaults() {
    let git = parse("kind = \"git\"\npath = \"/srv/shop\"").expect("it reads");
    assert_eq!(
        git.source,
        Source::Git {
            path: "/srv/shop".into()
        }
    );
    assert_eq!((git.limit.as_secs(), git.proven_after.as_secs()), (60, 300));
    let link = "kind = \"symlink\"\npath = \"/srv/current\"\nreleases = \"/srv/releases\"\nschema_check = [\"a\"]\nbackup_check = [\"b\"]\nbuild = [\"c\"]\nlimit = \"5s\"";
    let link = parse(link).expect("it reads");
    assert_eq!(
        (
            &*link.schema_check[0],
            &*link.backup_check[0],
            &*link.build[0]
        ),
        ("a", "b", "c")
    );
    assert_eq!(link.limit.as_secs(), 5);
    let image =
        parse("kind = \"container\"\npath = \"/srv/tag\"\nimage = \"shop\"").expect("it reads");
    assert!(matches!(image.source, Source::Container { inspect, .. } if inspect[0] == "docker"));
    parse("kind = \"command\"\ncurrent = [\"a\"]\nswitch = [\"b\", \"{release}\"]")
        .expect("it reads");
}

#[test]
fn mistakes_say_what_is_wrong() {
    for (lines, why) in [
        ("kind = \"svn\"", "no kind of release is called `svn`"),
        ("kind = \"git\"", "releases of kind `git` need `path`"),
        (
            "kind = \"git\"\npath = \"srv\"",
            "`path` must be an absolute path",
        ),
        (
            "kind = \"git\"\npath = \"/srv\"\nimage = \"a\"",
            "`image` is not for releases of kind `git`",
        ),
        (
            "kind = \"symlink\"\npath = \"/srv\"",
            "need `path` and `releases`",
        ),
        (
            "kind = \"command\"\ncurrent = [\"a\"]\nswitch = [\"b\"]",
            "must say {release}",
        ),
        (
            "kind = \"command\"\ncurrent = []\nswitch = [\"{release}\"]",
            "`current` is empty",
        ),
        (
            "kind = \"git\"\npath = \"/srv\"\nlimit = \"11m\"",
            "at most 10m",
        ),
        (
            "kind = \"git\"\npath = \"/srv\"\nproven_after = \"0s\"",
            "must be more than nothing",
        ),
        (
            "kind = \"git\"\npath = \"/srv\"\nbranch = \"main\"",
            "branch",
        ),
    ] {
        let said = parse(lines).expect_err("it is a mistake");
        assert!(said.contains(why), "{said} does not say {why}");
    }
}

#[test]
fn places_where_a_rollback_would_be_a_catastrophe_are_refused() {
    let link = |path: &str, releases: &str| {
        parse(&format!(
            "kind = \"symlink\"\npath = \"{path}\"\nreleases = \"{releases}\""
        ))
    };
    for (path, releases, why) in [
        ("/srv/a/../current", "/srv/releases", "without `..`"),
        ("/srv/current", "/srv/../releases", "without `..`"),
        ("/srv/app", "/srv/app/releases", "must not be below `path`"),
        ("/srv/app", "/srv/app", "must not be below `path`"),
        ("/current", "/srv/releases", "among files of the system"),
        ("/etc", "/srv/releases", "place of the system"),
        ("/usr", "/srv/releases", "place of the system"),
        ("/bin", "/srv/releases", "place of the system"),
        ("/etc/ssl", "/srv/releases", "among files of the system"),
        ("/usr/lib/app", "/srv/releases", "place of the system"),
        ("/usr/local/bin/app", "/srv/releases", "place of the system"),
        ("/srv/current", "/", "place of the system"),
        ("/srv/current", "/usr/lib", "place of the system"),
        ("/root/.ssh/current", "/srv/releases", "place of the system"),
    ] {
        let said = link(path, releases).expect_err(path);
        assert!(said.contains(why), "{path} {releases}: {said}");
    }
    for (path, releases) in [
        ("/srv/current", "/srv/releases"),
        ("/usr/local/shop/current", "/usr/local/shop/releases"),
        ("/etc/shop/current", "/etc/shop/releases"),
    ] {
        link(path, releases).expect("it is a place of its own");
    }
    let tag = |path: &str| {
        parse(&format!(
            "kind = \"container\"\npath = \"{path}\"\nimage = \"shop\""
        ))
    };
    for path in ["/etc/passwd", "/etc/shadow", "/proc/sysrq-trigger", "/tag"] {
        tag(path).expect_err(path);
    }
    tag("/etc/shop/tag").expect("it is a file of its own");
    for path in ["/", "/etc", "/srv/..", "/usr/share"] {
        let git = format!("kind = \"git\"\npath = \"{path}\"");
        parse(&git).expect_err(path);
    }
}
