//! What the journal says of a repair afterwards, and that it is whole, over the daemon's death and a new start.

use anyhow::{Result, ensure};
use serde_json::Value;
use smart_monitor_tests::{Simulated, Site, binary, program};

use super::{is_fixed, restarts};

/// What `smart-monitor audit` prints about the site's journal, and whether it ended well.
fn audit(site: &Site, args: &[&str]) -> Result<(String, bool)> {
    let mut command = program(binary()?);
    command.arg("audit").arg("--state-dir").arg(site.state());
    let output = command.args(args).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok((text, output.status.success()))
}

#[test]
fn what_was_done_is_told_afterwards_and_the_journal_is_whole_over_kill_and_restart() -> Result<()> {
    let site = Site::new()?;
    let auth = Simulated::new("auth")?;
    // An intent is on the disk before its act; and repairs work as they do without.
    let journal = "[journal]\nintent = \"before\"\n";
    site.configure(&(journal.to_owned() + &auth.toml() + &restarts()))?;
    let mut daemon = site.start()?;
    daemon.healthy("auth")?;
    auth.fault("crash", &[])?;
    let fixed = |incident: &_| is_fixed(incident, "service_down", "auth");
    let incident = daemon.incident("it is repaired", fixed)?;
    // While the daemon runs.
    let (text, good) = audit(&site, &["--verify"])?;
    ensure!(good && text.contains("chain      whole"), "{text}");
    daemon.kill()?;
    let mut daemon = site.start()?;
    daemon.healthy("auth")?;
    ensure!(daemon.stop()?.success(), "an orderly end");

    let (text, good) = audit(&site, &["--verify", "--json"])?;
    let found: Value = serde_json::from_str(&text)?;
    let number = |name: &str| found.get(name).and_then(Value::as_u64);
    ensure!(good && number("unchecked") == Some(0), "{found:#}");
    let stored = site.journal()?;
    ensure!(
        number("lines") == u64::try_from(stored.len()).ok(),
        "{found:#}"
    );
    let last = stored.last().and_then(|line| line.get("sum"));
    ensure!(last.is_some() && found.get("last") == last, "{found:#}");

    let id = incident.id.to_string();
    let (text, _) = audit(
        &site,
        &["--acts", "--json", "--outcome", "fixed", "--incident", &id],
    )?;
    let kinds: Vec<Value> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let kinds: Vec<_> = kinds
        .iter()
        .filter_map(|line| line.get("entry")?.as_str())
        .collect();
    ensure!(kinds == ["intent", "effect"], "{text}");
    let (text, _) = audit(&site, &["--service", "auth"])?;
    ensure!(
        text.contains("restart_service") && text.contains("fixed"),
        "{text}"
    );
    Ok(())
}
