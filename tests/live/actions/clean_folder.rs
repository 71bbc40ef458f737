//! Folders that are cleaned: on disks that are really full, read-only, mounted into each other, gone; and daemons that are killed meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use smart_monitor::host::clean::Cleaner;
use smart_monitor::host::mounts;
use smart_monitor::model::incident::StepKind;
use smart_monitor::model::{Cleaning, Enough, Folder, Incident, IncidentId, Outcome, Subject};
use smart_monitor_tests::{Site, program};

/// A file system of a test's own, which goes with it.
struct Mounted(PathBuf);

impl Mounted {
    fn new(place: PathBuf, arguments: &[&str]) -> Result<Self> {
        fs::create_dir_all(&place)?;
        let mounted = program("mount").args(arguments).arg(&place).status()?;
        ensure!(mounted.success(), "cannot mount {}", place.display());
        Ok(Self(place))
    }

    fn tmpfs(place: PathBuf, options: &str) -> Result<Self> {
        Self::new(place, &["-t", "tmpfs", "-o", options, "tmpfs"])
    }

    fn read_only(&self) -> Result<()> {
        let status = program("mount")
            .args(["-o", "remount,ro"])
            .arg(&self.0)
            .status()?;
        ensure!(status.success(), "cannot make it read-only");
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What was mounted into it goes too; who still has it open keeps it until then.
        let unmounted = program("umount").args(["-R", "-l"]).arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.0.display());
        }
    }
}

/// Writes a file that was last written to two days ago.
fn old(path: &Path, bytes: usize) -> Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(&vec![b'x'; bytes])?;
    file.set_modified(SystemTime::now() - Duration::from_hours(48))?;
    Ok(())
}

/// Old files until there is room for none, and how many.
fn fill(folder: &Path, bytes: usize) -> Result<usize> {
    for n in 0..100_000 {
        let path = folder.join(format!("shop.log.{n}"));
        if old(&path, bytes).is_err() {
            let _none = fs::remove_file(path);
            ensure!(n > 0, "nothing could be written");
            return Ok(n);
        }
    }
    anyhow::bail!("it is never full")
}

fn files(folder: &Path) -> Result<BTreeSet<String>> {
    let names = fs::read_dir(folder)?.map(|entry| {
        let name = entry?.file_name();
        Ok(name.to_string_lossy().into_owned())
    });
    names.collect()
}

/// The names in all lists of a state folder.
fn listed(state: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for list in files(&state.join("cleaned"))? {
        if list == "reserve" {
            continue;
        }
        let text = fs::read_to_string(state.join("cleaned").join(list))?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        names.extend(lines.filter_map(|line| Some(line.rsplit_once(' ')?.1.to_owned())));
    }
    Ok(names)
}

fn config(folder: &Path, with: &str) -> String {
    format!(
        "[policy]\nboot_grace = \"0s\"\nbackoff_initial = \"100ms\"\n\
         [[folder]]\nname = \"logs\"\npath = \"{}\"\nmatch = [\"*.log.*\"]\nolder_than = \"24h\"\n\
         [[remedy]]\ndetector = \"disk_full\"\non = [\"logs\"]\naction = \"clean_folder\"\n{with}\n",
        folder.display()
    )
}

fn is_about_logs(incident: &Incident) -> bool {
    let logs = Subject::Folder {
        name: "logs".to_owned(),
    };
    incident.detector == "disk_full" && incident.subject == logs
}

fn is_fixed(incident: &Incident) -> bool {
    is_about_logs(incident) && incident.outcome == Some(Outcome::Fixed)
}

fn step(incident: &Incident, what: StepKind) -> Option<&str> {
    let mut steps = incident.steps.iter();
    let step = steps.find(|step| step.what == what)?;
    Some(&step.detail)
}

#[test]
fn a_full_disk_has_room_again_and_no_more_was_deleted_than_that_needed() -> Result<()> {
    let site = Site::new()?;
    let disk = Mounted::tmpfs(site.path("disk"), "size=32M")?;
    let folder = disk.0.join("logs");
    fs::create_dir(&folder)?;
    let young = folder.join("young.log.1");
    fs::write(&young, vec![b'y'; 1 << 20])?;
    let all = fill(&folder, 256 << 10)?;
    site.configure(&config(&folder, ""))?;
    let mut daemon = site.start()?;
    let incident = daemon.incident("the disk has room again", is_fixed)?;
    let left = files(&folder)?;
    ensure!(young.exists() && left.len() > all / 2, "{left:?}");
    let (_, room) = mounts::folder(&folder)?;
    ensure!((8_600..8_900).contains(&room.share()), "{room:?}");
    let listed = listed(&site.state())?;
    ensure!(
        left.is_disjoint(&listed) && left.len() - 1 + listed.len() == all,
        "{listed:?}"
    );
    let said = step(&incident, StepKind::Acted).context("it acted")?;
    ensure!(said.contains("came back"), "{incident:#?}");
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

#[test]
fn with_its_own_state_on_the_full_disk_it_still_lists_before_it_deletes() -> Result<()> {
    let site = Site::new()?;
    let disk = Mounted::tmpfs(site.path("disk"), "size=64M")?;
    let folder = disk.0.join("logs");
    fs::create_dir(&folder)?;
    fs::create_dir(disk.0.join("state"))?;
    let from = disk.0.join("state");
    let from = from.to_str().context("it is text")?;
    let _state = Mounted::new(site.state(), &["--bind", from])?;
    site.configure(&config(&folder, ""))?;
    let mut daemon = site.start()?;
    ensure!(
        site.state().join("cleaned/reserve").exists(),
        "{}",
        daemon.last_words()
    );
    fill(&folder, 1 << 20)?;
    // To the last byte.
    let mut rest = fs::File::create(folder.join("rest"))?;
    while rest.write(&[b'x'; 4096]).is_ok_and(|written| written > 0) {}
    daemon.incident("the disk has room again", is_fixed)?;
    ensure!(!listed(&site.state())?.is_empty(), "nothing is listed");
    ensure!(
        site.state().join("cleaned/reserve").exists(),
        "room is reserved again"
    );
    Ok(())
}

#[test]
fn on_a_read_only_disk_nothing_goes_and_it_is_said_why() -> Result<()> {
    let site = Site::new()?;
    let disk = Mounted::tmpfs(site.path("disk"), "size=8M")?;
    let all = fill(&disk.0, 256 << 10)?;
    disk.read_only()?;
    site.configure(&config(&disk.0, ""))?;
    let mut daemon = site.start()?;
    let incident = daemon.incident("it fails", |incident| {
        is_about_logs(incident) && step(incident, StepKind::Failed).is_some()
    })?;
    let said = step(&incident, StepKind::Failed).unwrap_or_default();
    ensure!(said.contains("Read-only file system"), "{incident:#?}");
    ensure!(files(&disk.0)?.len() == all, "something was deleted");
    Ok(())
}

#[test]
fn inodes_come_back_too() -> Result<()> {
    let site = Site::new()?;
    let disk = Mounted::tmpfs(site.path("disk"), "size=64M,nr_inodes=400")?;
    let all = fill(&disk.0, 0)?;
    site.configure(&config(&disk.0, ""))?;
    let mut daemon = site.start()?;
    daemon.incident("there are inodes again", is_fixed)?;
    let left = files(&disk.0)?.len();
    ensure!(left < all && left > all / 2, "{left} of {all}");
    Ok(())
}

#[test]
fn killed_in_the_midst_what_is_gone_stands_in_the_list() -> Result<()> {
    let site = Site::new()?;
    let disk = Mounted::tmpfs(site.path("disk"), "size=64M,nr_inodes=12000")?;
    fill(&disk.0, 0)?;
    let before = files(&disk.0)?;
    let deep =
        config(&disk.0, "").replace("[[remedy]]", "full = \"20%\"\ninodes = \"10%\"\n[[remedy]]");
    site.configure(&deep)?;
    let mut daemon = site.start()?;
    daemon.wait_for("the first file is gone", |_| {
        (fs::read_dir(&disk.0).ok()?.count() < before.len()).then_some(())
    })?;
    daemon.kill()?;
    let left = files(&disk.0)?;
    ensure!(left.len() > 100, "it was through before it was killed");
    let gone: BTreeSet<String> = before.difference(&left).cloned().collect();
    ensure!(
        !gone.is_empty() && gone.is_subset(&listed(&site.state())?),
        "{gone:?}"
    );
    // The next one goes on.
    let mut daemon = site.start()?;
    daemon.incident("there are inodes again", is_fixed)?;
    Ok(())
}

#[test]
fn a_folder_that_is_gone_or_another_is_left_alone() -> Result<()> {
    let site = Site::new()?;
    let disk = Mounted::tmpfs(site.path("disk"), "size=8M")?;
    let folder = disk.0.join("logs");
    fs::create_dir(&folder)?;
    let elsewhere = disk.0.join("elsewhere");
    fs::create_dir(&elsewhere)?;
    let all = fill(&elsewhere, 256 << 10)?;
    fs::remove_dir(&folder)?;
    std::os::unix::fs::symlink(&elsewhere, &folder)?;
    site.configure(&config(&folder, "").replace("disk_full", "manual"))?;
    let mut daemon = site.start()?;
    // A folder that is a link is not looked at, so it is nobody's full disk.
    let said = daemon.incidents()?;
    ensure!(!said.iter().any(is_about_logs), "{said:#?}");
    ensure!(files(&elsewhere)?.len() == all, "something was deleted");
    ensure!(daemon.stop()?.success(), "an orderly end");
    Ok(())
}

fn rules(path: &Path) -> Cleaning {
    Cleaning {
        folder: Folder {
            name: "logs".to_owned(),
            path: path.to_owned(),
            patterns: vec!["*.log.*".to_owned()],
            older_than: Duration::from_hours(1),
            keep_newest: 0,
            shrink_to: None,
            recursive: true,
            hard_links: false,
            full: 9_000,
            inodes: 9_000,
        },
        id: None,
        enough: Enough::All,
        at_most: 10_000,
        at_most_bytes: None,
    }
}

#[test]
fn what_is_mounted_into_the_folder_is_not_in_it() -> Result<()> {
    let site = Site::new()?;
    let disk = Mounted::tmpfs(site.path("disk"), "size=8M")?;
    let (folder, outside) = (disk.0.join("logs"), disk.0.join("outside"));
    fs::create_dir_all(&outside)?;
    fs::create_dir_all(folder.join("deep"))?;
    old(&outside.join("a.log.1"), 10)?;
    old(&folder.join("deep/b.log.1"), 10)?;
    old(&folder.join("file.log.1"), 10)?;
    let outside_text = outside.to_str().context("it is text")?;
    // The same file system by another way, another one, and a file over a file.
    let _bound = Mounted::new(folder.join("bound"), &["--bind", outside_text])?;
    let other = Mounted::tmpfs(folder.join("other"), "size=1M")?;
    old(&other.0.join("c.log.1"), 10)?;
    let precious = disk.0.join("precious.log.1");
    old(&precious, 10)?;
    let over = folder.join("file.log.1");
    let text = precious.to_str().context("it is text")?;
    let bound = program("mount")
        .args(["--bind", text])
        .arg(&over)
        .status()?;
    ensure!(bound.success(), "cannot mount a file over a file");
    fs::create_dir_all(site.state())?;
    let cleaner = Cleaner::new(&site.state());
    let came = cleaner.clean(IncidentId(1), &rules(&folder), &|| None)?;
    ensure!(came.files == 1, "{came:?}");
    ensure!(!folder.join("deep/b.log.1").exists(), "{came:?}");
    for stays in [
        outside.join("a.log.1"),
        other.0.join("c.log.1"),
        precious,
        over,
    ] {
        ensure!(stays.exists(), "{} was deleted", stays.display());
    }
    Ok(())
}

#[test]
fn a_file_that_is_held_open_comes_back_when_it_is_let_go() -> Result<()> {
    let site = Site::new()?;
    let disk = Mounted::tmpfs(site.path("disk"), "size=8M")?;
    let path = disk.0.join("a.log.1");
    old(&path, 1 << 20)?;
    old(&disk.0.join("b.log.1"), 1 << 20)?;
    let mut reader = program("sleep")
        .arg("1000")
        .stdin(fs::File::open(&path)?)
        .spawn()?;
    fs::create_dir_all(site.state())?;
    let cleaned = Cleaner::new(&site.state()).clean(IncidentId(1), &rules(&disk.0), &|| None);
    let who = format!("sleep [{}]", reader.id());
    reader.kill()?;
    reader.wait()?;
    let cleaned = cleaned?;
    ensure!(
        (cleaned.files, cleaned.bytes) == (2, 2 << 20),
        "{cleaned:?}"
    );
    ensure!(cleaned.came_back == 1 << 20, "{cleaned:?}");
    let (readers, _) = &cleaned.open;
    ensure!(readers.contains(&who), "{cleaned:?}");
    Ok(())
}

/// Without rights: as `nobody`, in a process of its own, since rights are a process's.
#[test]
fn without_rights_nothing_goes_and_it_is_said_why() -> Result<()> {
    const CHILD: &str = "SMART_MONITOR_TEST_WITHOUT_RIGHTS";
    if let Some(place) = std::env::var_os(CHILD) {
        let place = Path::new(&place);
        let cleaned = Cleaner::new(&place.join("state")).clean(
            IncidentId(1),
            &rules(&place.join("logs")),
            &|| None,
        )?;
        ensure!(cleaned.files == 1 && cleaned.failed.0 == 1, "{cleaned:?}");
        let why = cleaned.failed.1.unwrap_or_default();
        ensure!(why.contains("Permission denied"), "{why}");
        return Ok(());
    }
    let site = Site::new()?;
    let place = site.path("nobody");
    for (name, mode) in [
        ("", 0o755),
        ("logs", 0o777),
        ("logs/theirs", 0o755),
        ("state", 0o777),
    ] {
        fs::create_dir_all(place.join(name))?;
        fs::set_permissions(place.join(name), fs::Permissions::from_mode(mode))?;
    }
    old(&place.join("logs/a.log.1"), 10)?;
    old(&place.join("logs/theirs/b.log.1"), 10)?;
    // The checkout may lie where only root can look.
    let copy = site.path("test");
    fs::copy(std::env::current_exe()?, &copy)?;
    let name = std::thread::current().name().map(str::to_owned);
    let output = program(&copy)
        .args(["--exact", &name.context("a test has a name")?])
        .env(CHILD, &place)
        .uid(65534)
        .gid(65534)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    ensure!(place.join("logs/theirs/b.log.1").exists(), "{said}");
    ensure!(!place.join("logs/a.log.1").exists(), "{said}");
    Ok(())
}
