//! Releases that are real: repositories of git, links, files and commands; what speaks against a change, and the change itself.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use smart_monitor::host::HostError;
use smart_monitor::host::command::{Order, Runner};
use smart_monitor::host::release::{Switch, current, may_switch, switch};
use smart_monitor::model::Releases;
use smart_monitor::model::release::Source;

/// A folder and a runner of its own.
struct Place {
    folder: PathBuf,
    runner: Runner,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.folder);
    }
}

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("smart-monitor-release-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _gone = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("it is made");
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("it is ours");
        let runner = Runner::new(&folder.join("state"));
        Self { folder, runner }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
        std::fs::write(&path, text).expect("it is written");
        path
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("it reads")
    }

    /// git in `app`, by somebody who deploys.
    fn git(&self, arguments: &[&str]) -> String {
        let folder = self.path("app");
        std::fs::create_dir_all(&folder).expect("it is made");
        let identity = [
            ("GIT_AUTHOR_NAME", "Deployer"),
            ("GIT_AUTHOR_EMAIL", "deployer@example.org"),
            ("GIT_COMMITTER_NAME", "Deployer"),
            ("GIT_COMMITTER_EMAIL", "deployer@example.org"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ];
        let owner = std::fs::metadata(&folder).expect("it is there");
        let words = ["git"].iter().chain(arguments);
        let order = Order {
            command: words.map(|word| (*word).to_owned()).collect(),
            timeout: Duration::from_secs(20),
            environment: identity.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec(),
            folder: Some(folder),
            user: (owner.uid() != 0).then_some((owner.uid(), owner.gid())),
            ..Order::default()
        };
        let finished = self.runner.run(&order).expect("git is there");
        let said = finished.output.to_string();
        assert_eq!(
            finished.status, 0,
            "git {arguments:?}: {said} {}",
            finished.errors
        );
        said.strip_suffix("\\n").unwrap_or(&said).to_owned()
    }

    fn commit(&self, version: &str) -> String {
        self.write("app/version", version);
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", version]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// A repository with two commits: the older and the newer one.
    fn repository(&self) -> (String, String) {
        self.git(&["init", "-q", "-b", "main"]);
        let older = self.commit("1");
        (older, self.commit("2"))
    }

    fn checkout(&self) -> Releases {
        let path = self.path("app");
        how(Source::Git { path })
    }

    /// Releases in folders, and the link that leads to the newer one.
    fn folders(&self, target: &str) -> Releases {
        self.write("releases/v1/version", "1");
        self.write("releases/v2/version", "2");
        let path = self.path("current");
        symlink(target, &path).expect("it is made");
        let releases = self.path("releases");
        how(Source::Symlink { path, releases })
    }

    fn done(&self, asked: &Switch<'_>) {
        may_switch(&self.runner, asked).expect("nothing speaks against it");
        switch(&self.runner, asked).expect("it is done");
        assert_eq!(
            current(&self.runner, asked.how).expect("it reads"),
            asked.to
        );
    }

    /// Why it is refused: nothing is changed.
    fn refused(&self, asked: &Switch<'_>, why: &str) {
        let error = may_switch(&self.runner, asked).expect_err("it is refused");
        let fits = matches!(error, HostError::Unfit(_) | HostError::OtherRelease { .. });
        assert!(fits, "{error:?}");
        assert!(
            error.to_string().contains(why),
            "{error} does not say {why}"
        );
    }

    fn unknown(&self, how: &Releases, why: &str) {
        let error = current(&self.runner, how).expect_err("it cannot be told");
        assert!(
            error.to_string().contains(why),
            "{error} does not say {why}"
        );
    }
}

fn how(source: Source) -> Releases {
    Releases {
        source,
        build: Vec::new(),
        schema_check: Vec::new(),
        backup_check: Vec::new(),
        limit: Duration::from_secs(10),
        proven_after: Duration::from_secs(1),
    }
}

fn back<'a>(how: &'a Releases, from: &'a str, to: &'a str) -> Switch<'a> {
    Switch {
        service: "shop",
        how,
        from,
        to,
        forward: false,
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn shell(script: &str) -> Vec<String> {
    words(&["sh", "-c", script])
}

fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).expect("it reads").count()
}

#[test]
fn a_commit_goes_back_and_forward_and_no_hook_is_run() {
    let place = Place::new("git");
    let (older, newer) = place.repository();
    let hook = place.write(
        "app/.git/hooks/post-checkout",
        "#!/bin/sh\ntouch ../hooked\n",
    );
    std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).expect("it is ours");
    let mut how = place.checkout();
    how.build = shell("cp version built && echo $SMART_MONITOR_RELEASE > ../told");
    place.write("app/.git/info/exclude", "built\n");
    assert_eq!(current(&place.runner, &how).expect("it reads"), newer);

    place.done(&back(&how, &newer, &older));
    assert_eq!(
        (place.read("app/version"), place.read("app/built")),
        ("1".into(), "1".into())
    );
    assert_eq!(place.read("told").trim(), older);
    assert!(!place.path("hooked").exists());
    // It is detached by now, which is no reason to refuse.
    let forward = Switch {
        forward: true,
        ..back(&how, &older, &newer)
    };
    place.done(&forward);
    assert_eq!(place.read("app/version"), "2");
    // It was ended before it was built.
    place.write("app/built", "half of it");
    switch(&place.runner, &forward).expect("it is built again");
    assert_eq!(place.read("app/built"), "2");
    assert_eq!(
        place.git(&["log", "-1", "--format=%H", "main"]),
        newer,
        "no branch was moved"
    );
}

#[test]
fn changes_that_are_in_no_commit_stop_it() {
    let place = Place::new("dirty");
    let (older, newer) = place.repository();
    let how = place.checkout();
    place.write("app/version", "by hand");
    place.refused(&back(&how, &newer, &older), "in no commit");
    place.git(&["add", "-A"]);
    place.refused(&back(&how, &newer, &older), "in no commit");
    place.git(&["reset", "-q", "--hard"]);
    for (file, why) in [
        ("index.lock", "another git works in it"),
        ("MERGE_HEAD", "a merge"),
        ("rebase-merge/done", "a rebase"),
    ] {
        let path = place.write(&format!("app/.git/{file}"), &newer);
        place.refused(&back(&how, &newer, &older), why);
        std::fs::remove_file(path).expect("it goes");
    }
    std::fs::remove_dir(place.path("app/.git/rebase-merge")).expect("it goes");
    assert_eq!(place.read("app/version"), "2");
    place.done(&back(&how, &newer, &older));
}

#[test]
fn files_that_are_in_no_commit_are_not_overwritten_ignored_ones_neither() {
    let place = Place::new("untracked");
    place.git(&["init", "-q", "-b", "main"]);
    place.write("app/data", "of the first release");
    let older = place.commit("1");
    place.git(&["rm", "-q", "data"]);
    let newer = place.commit("2");
    let how = place.checkout();
    place.write("app/data", "of a user");
    place.refused(&back(&how, &newer, &older), "data");
    place.write("app/.git/info/exclude", "data\n");
    place.refused(&back(&how, &newer, &older), "data");
    let error = switch(&place.runner, &back(&how, &newer, &older)).expect_err("git refuses, too");
    assert!(error.to_string().contains("data"), "{error}");
    assert_eq!(place.read("app/data"), "of a user");
    assert_eq!(current(&place.runner, &how).expect("it reads"), newer);
}

#[test]
fn a_release_that_is_not_there_stops_it() {
    let place = Place::new("missing");
    let (older, newer) = place.repository();
    let how = place.checkout();
    let nowhere = "0123456789012345678901234567890123456789";
    place.refused(&back(&how, &newer, nowhere), "is not in");
    place.refused(&back(&how, &older, nowhere), "by now");
    // A clone that has only the newest commit.
    let clone = Place::new("shallow");
    clone.git(&["init", "-q", "-b", "main"]);
    let from = format!("file://{}", place.path("app").display());
    clone.git(&["fetch", "-q", "--depth", "1", &from, "main"]);
    clone.git(&["checkout", "-q", "--detach", "FETCH_HEAD"]);
    let how = clone.checkout();
    clone.refused(&back(&how, &newer, &older), "shallow");
    assert_eq!(clone.read("app/version"), "2");
}

#[test]
fn what_is_no_checkout_says_so() {
    let place = Place::new("none");
    place.unknown(&place.checkout(), "app");
    place.write("app/version", "1");
    place.unknown(&place.checkout(), "no checkout of git");
    // Within another one, a damaged repository is not taken for that.
    place.repository();
    place.write("app/inner/.git/HEAD", "nonsense");
    let path = place.path("app/inner");
    place.unknown(&how(Source::Git { path }), "rev-parse");
}

#[test]
fn git_runs_as_the_owner_of_the_checkout() {
    let place = Place::new("owner");
    let app = place.path("app");
    std::fs::create_dir_all(&app).expect("it is made");
    chown(&app, Some(12_345), Some(12_345)).expect("the live tests need root");
    place.git(&["init", "-q", "-b", "main"]);
    for version in ["1", "2"] {
        place.write("app/version", version);
        chown(app.join("version"), Some(12_345), Some(12_345)).expect("we are root");
        place.git(&["add", "-A"]);
        place.git(&["commit", "-q", "-m", version]);
    }
    let older = place.git(&["rev-parse", "HEAD~1"]);
    let newer = place.git(&["rev-parse", "HEAD"]);
    // What such a user writes into the repository's configuration is run by git: as that user, then.
    let filter = format!(
        "tee {}/by >/dev/null; id -u > {0}/.git/filtered; cat",
        app.display()
    );
    place.git(&[
        "config",
        "filter.spy.smudge",
        &filter.replace("tee", "true"),
    ]);
    place.write("app/.git/info/attributes", "version filter=spy\n");
    let mut how = place.checkout();
    how.build = shell("id -u > .git/built");
    place.done(&back(&how, &newer, &older));
    let owner = std::fs::metadata(app.join("version")).expect("it is there");
    assert_eq!(owner.uid(), 12_345);
    assert_eq!(place.read("app/.git/filtered").trim(), "12345");
    assert_eq!(place.read("app/.git/built").trim(), "12345");

    chown(&app, Some(0), Some(0)).expect("we are root");
    let error = current(&place.runner, &how).expect_err("it is two users'");
    assert!(error.to_string().contains("give both to one"), "{error}");
}

#[test]
fn the_checks_of_the_configuration_stop_it_and_their_limits_hold() {
    let place = Place::new("checks");
    let (older, newer) = place.repository();
    let mut how = place.checkout();
    how.limit = Duration::from_secs(1);
    let asked = [
        (
            shell("echo schema 7 is newer than $SMART_MONITOR_RELEASE >&2; exit 3"),
            "exit code 3: schema 7 is newer than",
        ),
        (shell("exec yes no"), "it was ended after"),
        (
            shell("trap '' TERM; while :; do sleep 1; done"),
            "it was ended after",
        ),
        (
            words(&["/nonexistent/check"]),
            "/nonexistent/check is not run",
        ),
    ];
    for (command, why) in asked {
        how.schema_check.clone_from(&command);
        place.refused(
            &back(&how, &newer, &older),
            "schema check does not allow it",
        );
        place.refused(&back(&how, &newer, &older), why);
        how.schema_check = words(&["true"]);
        how.backup_check = command;
        place.refused(
            &back(&how, &newer, &older),
            "backup check does not allow it",
        );
        how.backup_check = Vec::new();
    }
    // They are about going back.
    how.schema_check = words(&["false"]);
    let forward = Switch {
        forward: true,
        ..back(&how, &newer, &older)
    };
    may_switch(&place.runner, &forward).expect("nothing speaks against it");
    how.schema_check = words(&["true"]);
    how.build = shell("exit 4");
    let error = switch(&place.runner, &back(&how, &newer, &older)).expect_err("it is not built");
    assert!(error.to_string().contains("cannot build"), "{error}");
    assert_eq!(
        current(&place.runner, &how).expect("it reads"),
        older,
        "done by half"
    );
}

#[test]
fn a_link_goes_back_and_stays_what_it_is() {
    for (number, before) in ["releases/", "", "./releases/"].into_iter().enumerate() {
        let place = Place::new(&format!("link{number}"));
        // Nothing before the name: an absolute one.
        let before = match before {
            "" => format!("{}/", place.path("releases").display()),
            some => some.to_owned(),
        };
        let mut how = place.folders(&format!("{before}v2"));
        how.build = shell("cat version > ../../built");
        std::os::unix::fs::lchown(place.path("current"), Some(7), Some(8)).expect("we are root");
        place.done(&back(&how, "v2", "v1"));
        let link = std::fs::symlink_metadata(place.path("current")).expect("it is there");
        assert_eq!((link.uid(), link.gid()), (7, 8));
        let text = std::fs::read_link(place.path("current")).expect("it is a link");
        assert_eq!(text, Path::new(&format!("{before}v1")));
        assert_eq!(place.read("current/version"), "1");
        assert_eq!(place.read("built"), "1");
        let left = entries(&place.folder);
        assert_eq!(left, 4, "current, releases, built and state");
        let forward = Switch {
            forward: true,
            ..back(&how, "v1", "v2")
        };
        place.done(&forward);
        place.write("built", "half of it");
        switch(&place.runner, &forward).expect("it is built again");
        assert_eq!(place.read("built"), "2");
    }
}

#[test]
fn a_link_that_leads_elsewhere_is_no_release() {
    let place = Place::new("elsewhere");
    let how = place.folders("releases/v2");
    place.write("outside/version", "0");
    symlink("../outside", place.path("releases/v0")).expect("it is made");
    place.refused(&back(&how, "v2", "v0"), "leads to");
    place.refused(&back(&how, "v2", "v3"), "No such file");
    place.refused(&back(&how, "v2", "../outside"), "no name of a release");
    place.refused(&back(&how, "v1", "v2"), "by now");
    place.write("releases/file", "");
    place.refused(&back(&how, "v2", "file"), "is no folder");

    let path = place.path("current");
    let lead = |to: &str| {
        std::fs::remove_file(&path).expect("it goes");
        symlink(to, &path).expect("it is made");
    };
    lead("outside");
    place.unknown(&how, "no folder below");
    lead("releases");
    place.unknown(&how, "no folder below");
    lead("releases/v9");
    place.unknown(&how, "cannot follow");
    lead("releases/latest");
    symlink("v1", place.path("releases/latest")).expect("it is made");
    place.unknown(&how, "not the release's own name");
    std::fs::remove_file(&path).expect("it goes");
    place.write("current/version", "by hand");
    place.unknown(&how, "is no symbolic link");
    assert_eq!(place.read("current/version"), "by hand");
}

#[test]
fn a_tag_goes_back_where_the_image_is_there() {
    let place = Place::new("tag");
    let path = place.write("tag", "v2\n");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("it is ours");
    chown(&path, Some(7), Some(8)).expect("we are root");
    let how = how(Source::Container {
        path: path.clone(),
        image: "registry.example.org/shop".to_owned(),
        inspect: shell("test {image} = registry.example.org/shop:v1"),
    });
    place.refused(
        &back(&how, "v2", "v0"),
        "the image registry.example.org/shop:v0 is not there",
    );
    place.done(&back(&how, "v2", "v1"));
    assert_eq!(place.read("tag"), "v1\n");
    let found = std::fs::metadata(&path).expect("it is there");
    assert_eq!(
        (found.mode() & 0o777, found.uid(), found.gid()),
        (0o640, 7, 8)
    );
    std::fs::remove_file(&path).expect("it goes");
    symlink("/etc/hostname", &path).expect("it is made");
    place.unknown(&how, "no file with a tag");
}

#[test]
fn commands_tell_and_change_releases() {
    let place = Place::new("command");
    let path = place.write("release", "v2\n");
    let path = path.display();
    let mut how = how(Source::Command {
        current: words(&["cat", &path.to_string()]),
        switch: shell(&format!(
            "test {{release}} != v0 && echo {{release}} > {path}"
        )),
    });
    place.done(&back(&how, "v2", "v1"));
    let error = switch(&place.runner, &back(&how, "v1", "v0")).expect_err("it cannot");
    assert!(error.to_string().contains("exit code 1"), "{error}");
    assert_eq!(current(&place.runner, &how).expect("it reads"), "v1");
    if let Source::Command { switch, .. } = &mut how.source {
        *switch = shell("echo {release}");
    }
    let error = switch(&place.runner, &back(&how, "v1", "v2")).expect_err("it says so only");
    assert!(
        error
            .to_string()
            .contains("v1 is in place after the change"),
        "{error}"
    );
    for (text, why) in [
        ("", "no name of a release"),
        ("a b", "no name"),
        ("--force", "no name"),
        ("a\nb", "no name"),
    ] {
        place.write("release", text);
        place.unknown(&how, why);
    }
}
