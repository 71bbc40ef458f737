//! What `service_latency` costs a web server, and how its figures agree with what the server's clients measure.
//!
//! nginx has the first CPU and its clients the last. The cost is measured by answers that cost the server next to nothing: in each round
//! wrk asks for them with the probe detached, and with it attached. The agreement is measured by answers that keep the server busy, so
//! that requests wait for it and not for their client. The kernel's figures end where the response leaves the server and begin where the
//! request has arrived there; a client's also hold the network's share and its own: sending, being woken, reading one response after the
//! other. That share is what a client of the bench's own measures, over the same number of connections, beyond what the kernel counts of
//! it: the difference of the two quantiles. wrk's quantiles less that share are what the kernel's must come to.

#[path = "answers/asker.rs"]
mod asker;
#[path = "answers/nginx.rs"]
mod nginx;
#[path = "answers/wrk.rs"]
mod wrk;

use std::time::Duration;

use anyhow::{Context as _, Result};
use monitor_common::Kind;
use monitor_common::probes::service_latency::LatencyTotals;
use smart_monitor::kernel::{CgroupWatch, Options};

use self::nginx::{CHEAP, DEAR, Nginx};
use self::wrk::Wrk;
use super::Cpus;
use super::variant::{load, only};
use crate::report::{Goal, Report, Values, progress};

const CONNECTIONS: [u32; 3] = [1, 64, 512];
/// How long the server is asked at a time for what is cheap, and for what is dear.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(4);
const QUANTILES: [(f64, &str); 2] = [(0.5, "p50"), (0.99, "p99")];

pub(super) fn measure(rounds: usize, cpus: Cpus, report: &mut Report) -> Result<()> {
    let wrk = Wrk::find(cpus.last)?;
    let nginx = Nginx::start(cpus.first)?;
    cost(rounds, &wrk, &nginx, report)?;
    statistics(rounds.div_ceil(5), &wrk, &nginx, report)?;
    agreement(rounds.div_ceil(5), &wrk, &nginx, cpus.last, report)
}

/// The server's throughput, with the probe and without it.
fn cost(rounds: usize, wrk: &Wrk, nginx: &Nginx, report: &mut Report) -> Result<()> {
    let kernel = load(&only(&[Kind::ServiceLatency]))?;
    let watch = kernel.cgroups();
    let (id, url) = (nginx.cgroup_id()?, nginx.url(CHEAP));
    report.section_of_values(
        "nginx on one CPU, asked by wrk on another: service_latency attached, and not",
    );
    for connections in CONNECTIONS {
        progress(&format!(
            "kernel: nginx and wrk, {connections} connections, {rounds} rounds"
        ));
        let ask = || wrk.ask(connections, SHORT, &url);
        ask()?;
        let [mut rates, mut ratios, mut counted, mut displaced] =
            std::array::from_fn(|_| Values::default());
        for round in 0..rounds.max(1) {
            let (mut detached, mut attached) = (0.0, 0.0);
            for turn in [round % 2, 1 - round % 2] {
                if turn == 0 {
                    detached = ask()?.rate;
                    continue;
                }
                watch.watch(id)?;
                let asked = ask()?;
                let totals = totals(&watch, id)?;
                watch.unwatch(id)?;
                attached = asked.rate;
                counted.add(number(totals.requests) / asked.requests);
                displaced.add(number(totals.displaced) / asked.requests * 1e3);
            }
            rates.add(detached);
            ratios.add(attached / detached);
        }
        let name = |what: &str| format!("{connections} connections: {what}");
        report.values(&name("requests, detached"), &rates, "1/s", None);
        let goal = Some(Goal::AtLeast(0.97));
        let times = "throughput, attached / detached";
        report.values(&name(times), &ratios, "times", goal);
        let all = "exchanges counted / requests of wrk";
        report.values(&name(all), &counted, "times", None);
        let lost = "not counted for want of a place, of 1,000";
        report.values(&name(lost), &displaced, "", None);
    }
    Ok(())
}

/// What the kernel itself says that the programs take; measuring that costs too, so these runs are not among the others.
fn statistics(rounds: usize, wrk: &Wrk, nginx: &Nginx, report: &mut Report) -> Result<()> {
    let options = Options {
        stats: true,
        ..only(&[Kind::ServiceLatency])
    };
    let kernel = load(&options)?;
    let watch = kernel.cgroups();
    let (id, url) = (nginx.cgroup_id()?, nginx.url(CHEAP));
    watch.watch(id)?;
    for connections in CONNECTIONS {
        let mut each: [Values; 3] = Default::default();
        let mut share = Values::default();
        for _ in 0..rounds {
            let before = kernel.programs().costs();
            let asked = wrk.ask(connections, SHORT, &url)?;
            let mut sum = 0.0;
            for ((program, before), each) in
                kernel.programs().costs().iter().zip(before).zip(&mut each)
            {
                let ns = number(program.run_time_ns - before.run_time_ns);
                each.add(ns / number(program.run_count - before.run_count));
                sum += ns;
            }
            share.add(sum / asked.requests);
        }
        let name = |what: &str| format!("{connections} connections: {what} (bpf_stats)");
        // In the order of their names: the one for connections comes first.
        let [_, request, response] = &each;
        report.values(
            &name("a run of the program for requests"),
            request,
            "ns",
            None,
        );
        report.values(
            &name("a run of the program for responses"),
            response,
            "ns",
            None,
        );
        report.values(&name("all runs for one request"), &share, "ns", None);
    }
    watch.unwatch(id)?;
    Ok(())
}

/// The kernel's quantiles next to those of clients.
fn agreement(
    rounds: usize,
    wrk: &Wrk,
    nginx: &Nginx,
    cpu: usize,
    report: &mut Report,
) -> Result<()> {
    let kernel = load(&only(&[Kind::ServiceLatency]))?;
    let watch = kernel.cgroups();
    let (id, url) = (nginx.cgroup_id()?, nginx.url(DEAR));
    report.section_of_values("Its latency, as wrk measures it and as the kernel counts it");
    for connections in CONNECTIONS {
        progress(&format!(
            "kernel: latency of nginx, {connections} connections, {rounds} rounds"
        ));
        let mut figures: [Figures; 2] = Default::default();
        for _ in 0..rounds.max(1) {
            watch.watch(id)?;
            let asked = wrk.ask(connections, LONG, &url)?;
            let while_wrk = totals(&watch, id)?;
            watch.unwatch(id)?;
            watch.watch(id)?;
            let times = asker::ask(nginx.address(), DEAR, connections, cpu, LONG)?;
            let while_own = totals(&watch, id)?;
            watch.unwatch(id)?;
            let each = QUANTILES.iter().zip(asked.quantiles).zip(&mut figures);
            for (((quantile, _), wrk), into) in each {
                let counted = |of: &LatencyTotals| {
                    let nanos = of.quantile_ns(*quantile);
                    nanos.map(|nanos| nanos / 1e3).context("nothing counted")
                };
                let client = times.quantile(*quantile).context("no answer")?;
                let client = client.as_secs_f64() * 1e6;
                into.wrk.add(wrk);
                into.own.add(counted(&while_wrk)?);
                into.share.add(client - counted(&while_own)?);
            }
        }
        for ((_, quantile), figures) in QUANTILES.iter().zip(&figures) {
            figures.tell(&format!("{connections} connections: {quantile}"), report);
        }
    }
    Ok(())
}

/// One quantile of all rounds, microseconds.
#[derive(Debug, Default)]
struct Figures {
    wrk: Values,
    /// Of the clients and the network.
    share: Values,
    own: Values,
}

impl Figures {
    fn tell(&self, name: &str, report: &mut Report) {
        report.values(&format!("{name}, wrk"), &self.wrk, "us", None);
        let share = format!("{name}, share of client and network");
        report.values(&share, &self.share, "us", None);
        report.values(&format!("{name}, the kernel's"), &self.own, "us", None);
        let medians = (self.own.median(), self.wrk.median(), self.share.median());
        if let (Some(own), Some(wrk), Some(share)) = medians {
            let off = (own / (wrk - share) - 1.0).abs() * 100.0;
            let off: Values = std::iter::once(off).collect();
            let name = format!("{name}, the kernel's is off by");
            report.values(&name, &off, "%", Some(Goal::AtMost(10.0)));
        }
    }
}

fn totals(watch: &CgroupWatch, id: u64) -> Result<LatencyTotals> {
    let figures = watch.read();
    let of_it = figures.get(&id).and_then(|figures| figures.latency);
    of_it.context("it is not watched")
}

#[expect(clippy::cast_precision_loss, reason = "ratios are computed of it")]
const fn number(count: u64) -> f64 {
    count as f64
}
