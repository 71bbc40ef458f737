//! `smart-monitor discover`: what runs on this host, proposed as a configuration.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;

use super::{ask, render};
use crate::config::{Config, DEFAULT_FILE};
use crate::discovery::{self, Known, Listing};

/// Find what runs on this host, and propose a configuration: services of systemd, containers, PM2 and supervisord, and processes that listen.
///
/// Changes nothing. As root it sees everything. What the configuration names already is left out. To find the checks, each port is asked once
/// what it speaks (HTTP, TLS, Redis), and the check that is proposed is made once; each may take 1 second.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write the configuration to this new file; one that is there is never overwritten.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only these kinds.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = PossibleValuesParser::new(discovery::kinds()))]
    kind: Vec<String>,
    /// Ask no port for anything: checks go by the names of programs alone.
    #[arg(long)]
    no_probe: bool,
    /// What is configured already; /etc/smart-monitor/smart-monitor.toml where it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// At most so many services.
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=1000))]
    most: u16,
    /// Print JSON in place of the configuration.
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// See [`Args`].
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let default = Path::new(DEFAULT_FILE);
    let file = args
        .config
        .as_deref()
        .or_else(|| default.exists().then_some(default));
    let known = match file.map(Config::load).transpose() {
        Ok(config) => config.as_ref().map(Known::of).unwrap_or_default(),
        Err(error) => {
            render::remark(error.render());
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut listing = discovery::look(&args.kind, &known, args.most.into());
    discovery::propose(&mut listing, !args.no_probe).map_err(anyhow::Error::msg)?;
    let text = discovery::written(&listing);
    // What is proposed must be good.
    if let Err(error) = Config::parse(&text, Path::new("proposed.toml")) {
        anyhow::bail!(
            "what was found makes no good configuration: {}",
            error.render()
        );
    }
    tell(&listing, file);
    match &args.output {
        _ if args.json => ask::show_json(&listing)?,
        None => render::show(&text)?,
        Some(path) => {
            let shown = path.display();
            let new = std::fs::File::options()
                .write(true)
                .create_new(true)
                .open(path);
            let mut new = new.with_context(|| {
                format!("cannot make {shown}, which must not be there yet: name another file")
            })?;
            new.write_all(text.as_bytes())
                .with_context(|| format!("cannot write {shown}"))?;
            render::remark(format_args!("{shown}: {} services", listing.services.len()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is not in the configuration, and why.
fn tell(listing: &Listing, file: Option<&Path>) {
    for (kind, why) in &listing.problems {
        render::remark(format_args!("{kind}: {}", discovery::clean(why)));
    }
    if let Some(file) = file.filter(|_| !listing.configured.is_empty()) {
        render::remark(format_args!(
            "left out, since {} has them: {}",
            file.display(),
            listing.configured.join(", ")
        ));
    }
    if listing.left_out > 0 {
        render::remark(format_args!(
            "{} more services were found and left out: ask for one `--kind` at a time, or raise `--most`",
            listing.left_out
        ));
    }
}
