//! Releases on the host: which one is in place, whether another may be put there, and putting it there.
//!
//! What speaks against it is asked in this order, and each is a refusal: changes that are in no release, another release in place than was
//! meant, the wanted one not there any more, and the two checks of the configuration (schema, backup). Every program runs by
//! [`super::command`], with its time limit, its output kept, and nothing of it left behind. Where another user owns a checkout, git is run
//! as that user: what stands in such a repository's configuration is executed by git.

mod git;
mod link;
mod tag;

use std::path::{Path, PathBuf};

use super::HostError;
use super::command::{Finished, Order, Runner};
use crate::model::Releases;
use crate::model::release::{Source, good_name};

/// A release in the place of another.
#[derive(Clone, Copy, Debug)]
pub struct Switch<'a> {
    /// Of which service.
    pub service: &'a str,
    /// How it is done.
    pub how: &'a Releases,
    /// The release that must be in place.
    pub from: &'a str,
    /// The one that is put there.
    pub to: &'a str,
    /// It goes forward again: the checks of the configuration are about going back, and are not asked.
    pub forward: bool,
}

/// The release that is in place.
pub fn current(runner: &Runner, how: &Releases) -> Result<String, HostError> {
    let name = match &how.source {
        Source::Git { path } => git::Git::open(runner, path, how.limit)?.commit()?,
        Source::Symlink { path, releases } => link::Link::read(path, releases)?.release,
        Source::Container { path, .. } => tag::read(path)?,
        Source::Command { current, .. } => {
            let finished = run(runner, how, current, None, None, &[])?;
            let said = finished.map_err(|why| failed("cannot tell the release", current, &why))?;
            let said = said.output.to_string();
            said.strip_suffix("\\n").unwrap_or(&said).to_owned()
        }
    };
    if !good_name(&name) || name.contains('\\') {
        let most = crate::model::release::NAME;
        return Err(HostError::Release(format!(
            "`{name:.100}` is no name of a release: at most {most} letters, digits and signs, no space"
        )));
    }
    Ok(name)
}

/// Whether it may be done: everything that speaks against it is a refusal.
pub fn may_switch(runner: &Runner, switch: &Switch<'_>) -> Result<(), HostError> {
    let (how, to) = (switch.how, switch.to);
    let git = match &how.source {
        Source::Git { path } => {
            let git = git::Git::open(runner, path, how.limit)?;
            git.clean()?;
            Some(git)
        }
        _ => None,
    };
    let found = current(runner, how)?;
    if found != switch.from {
        return Err(HostError::OtherRelease {
            service: switch.service.to_owned(),
            found,
            meant: switch.from.to_owned(),
        });
    }
    match &how.source {
        Source::Git { .. } => {
            if let Some(git) = &git {
                git.can_check_out(to)?;
            }
        }
        Source::Symlink { path, releases } => {
            link::Link::read(path, releases)?.leading_to(to)?;
        }
        Source::Container { image, inspect, .. } => {
            let named = format!("{image}:{to}");
            let inspect = filled(inspect, "{image}", &named);
            let finished = run(runner, how, &inspect, None, None, &[])?;
            finished
                .map_err(|why| unfit(&format!("the image {named} is not there"), &inspect, &why))?;
        }
        // Its own command says so when it is asked to switch.
        Source::Command { .. } => {}
    }
    if switch.forward {
        return Ok(());
    }
    let asked = [
        (&how.schema_check, "its schema check does not allow it"),
        (&how.backup_check, "its backup check does not allow it"),
    ];
    for (command, refusal) in asked {
        if !command.is_empty() {
            let finished = run(runner, how, command, None, None, &names(switch))?;
            finished.map_err(|why| unfit(refusal, command, &why))?;
        }
    }
    Ok(())
}

/// Does it.
pub fn switch(runner: &Runner, switch: &Switch<'_>) -> Result<(), HostError> {
    let (how, to) = (switch.how, switch.to);
    // Put there before something ended it in its midst: only what is built of it is missing.
    let in_place = switch.forward && current(runner, how)? == to;
    let (folder, user) = match &how.source {
        Source::Git { path } => {
            let git = git::Git::open(runner, path, how.limit)?;
            if !in_place {
                git.check_out(to)?;
            }
            (Some(path.clone()), git.user)
        }
        Source::Symlink { path, releases } => {
            let link = link::Link::read(path, releases)?;
            let folder = if in_place {
                link.leading_to(to)?
            } else {
                link.lead_to(switch.from, to)?
            };
            (Some(folder), None)
        }
        _ if in_place => (None, None),
        Source::Container { path, .. } => {
            tag::write(path, to)?;
            (None, None)
        }
        Source::Command { switch: words, .. } => {
            let words = filled(words, "{release}", to);
            let finished = run(runner, how, &words, None, None, &names(switch))?;
            finished.map_err(|why| failed("cannot switch", &words, &why))?;
            (None, None)
        }
    };
    let found = current(runner, how)?;
    if found != to {
        return Err(HostError::Release(format!(
            "{found} is in place after the change, not {to}"
        )));
    }
    if !how.build.is_empty() {
        let finished = run(runner, how, &how.build, folder, user, &names(switch))?;
        finished.map_err(|why| failed("cannot build", &how.build, &why))?;
    }
    Ok(())
}

/// What commands of the configuration are told.
fn names(switch: &Switch<'_>) -> [(String, String); 3] {
    [
        ("SMART_MONITOR_SERVICE", switch.service),
        ("SMART_MONITOR_RELEASE", switch.to),
        ("SMART_MONITOR_RELEASE_BEFORE", switch.from),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// With every place in it filled.
fn filled(words: &[String], place: &str, with: &str) -> Vec<String> {
    words.iter().map(|word| word.replace(place, with)).collect()
}

/// Runs a program; why it did not end well, in words, where it did not.
fn run(
    runner: &Runner,
    how: &Releases,
    command: &[String],
    folder: Option<PathBuf>,
    user: Option<(u32, u32)>,
    environment: &[(String, String)],
) -> Result<Result<Finished, String>, HostError> {
    let order = Order {
        command: command.to_vec(),
        timeout: how.limit,
        user,
        environment: environment.to_vec(),
        folder,
        ..Order::default()
    };
    ended(&order, runner.run(&order))
}

/// How a program ended.
fn ended(
    order: &Order,
    run: Result<Finished, HostError>,
) -> Result<Result<Finished, String>, HostError> {
    let finished = match run {
        Ok(finished) => finished,
        Err(HostError::NotRun { program, why }) => {
            return Ok(Err(format!("{program} is not run: {why}")));
        }
        Err(error) => return Err(error),
    };
    if finished.ended.is_some() {
        let why = format!(
            "it was ended after {:.1?}, its limit is {:?}",
            finished.took, order.timeout
        );
        return Ok(Err(why));
    }
    if finished.status != 0 {
        let how = match finished.status & 0x7f {
            0 => format!("exit code {}", finished.status >> 8 & 0xff),
            signal => format!("signal {signal}"),
        };
        let said = [&finished.errors, &finished.output];
        let said = said.into_iter().find(|said| said.bytes > 0);
        let said = said.map_or_else(String::new, |said| {
            format!(": {}", shortened(&said.to_string()))
        });
        return Ok(Err(how + &said));
    }
    Ok(Ok(finished))
}

/// The beginning of a text that stands in a message.
fn shortened(text: &str) -> String {
    let text = text.strip_suffix("\\n").unwrap_or(text);
    let mut short: String = text.chars().take(300).collect();
    if short.len() < text.len() {
        short.push_str(" [...]");
    }
    short
}

fn unfit(what: &str, command: &[String], why: &str) -> HostError {
    HostError::Unfit(format!("{what}: `{}`: {why}", command.join(" ")))
}

fn failed(what: &str, command: &[String], why: &str) -> HostError {
    HostError::Release(format!("{what}: `{}`: {why}", command.join(" ")))
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> HostError {
    HostError::Release(format!("cannot {what} {}: {error}", path.display()))
}

/// Moves what was made ready into the place of a file or link, and forces that to the disk: nobody sees anything between the two.
fn put_in_place(ready: &Path, path: &Path) -> Result<(), HostError> {
    let moved = std::fs::rename(ready, path).and_then(|()| {
        let folder = path.parent().unwrap_or(Path::new("/"));
        std::fs::File::open(folder)?.sync_all()
    });
    moved.map_err(|error| {
        let _ = std::fs::remove_file(ready);
        cannot("replace", path, &error)
    })
}

/// Where the new one is made ready: beside the old one, by a name that is nobody else's.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
}
