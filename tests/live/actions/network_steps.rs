//! `repair_network` step by step, without a daemon: what vanishes meanwhile, rights that are missing, two at once, what is no fault.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use smart_monitor::actions;
use smart_monitor::config::Config;
use smart_monitor::engine::{Engine, Order};
use smart_monitor::host::network::{Known, Ways, apply, has, left_alone};
use smart_monitor::host::{Host, HostError, NetworkHand, Opened, Restarted, clock};
use smart_monitor::model::way::{Device, Diagnosis, NetworkFault, NetworkStep};
use smart_monitor::model::{
    Effect, EffectResult, IncidentId, Plan, ProcessKey, Sample, Signal, Time,
};
use smart_monitor::policy::Permit;
use smart_monitor_tests::lab::{DEVICE, Fault, Lab, V4, V6};

/// What a test does to the lab at a moment of an act.
type Meanwhile<'a> = Box<dyn Fn() + Send + Sync + 'a>;

/// The host of an act: its networks are real, its journal is a list.
struct Real<'a> {
    ways: &'a Ways,
    journal: Mutex<Vec<Plan>>,
    /// The journal cannot be written.
    full: bool,
    /// Done between the plan and the first change.
    before: Meanwhile<'a>,
}

impl std::fmt::Debug for Real<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Real")
    }
}

impl Host for Real<'_> {
    fn open(&self, process: ProcessKey) -> Result<Box<dyn Opened>, HostError> {
        Err(HostError::Gone(process))
    }

    fn restart_service(
        &self,
        service: &str,
        _: Option<ProcessKey>,
        _: Duration,
        _: &[String],
    ) -> Result<Restarted, HostError> {
        Err(HostError::NoService(service.to_owned()))
    }

    fn will_change(&self, _: IncidentId, _: &str, undo: &Plan) -> Result<(), HostError> {
        if self.full {
            return Err(HostError::Journal("no space left".to_owned()));
        }
        self.journal
            .lock()
            .expect("nobody panics with it")
            .push(undo.clone());
        (self.before)();
        Ok(())
    }

    fn network(&self, name: &str) -> Result<Box<dyn NetworkHand>, HostError> {
        Ok(Box::new(self.ways.turn(name)?))
    }

    fn now(&self) -> Time {
        clock::now()
    }
}

/// A lab and what is known of its host's way out, in a folder of its own.
struct Stage {
    lab: Lab,
    ways: Ways,
    config: String,
    folder: PathBuf,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Stage {
    fn new(plan: smart_monitor_tests::lab::Plan, lines: &str) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the live tests need root: cargo xtask test --live, or sudo"
        );
        let lab = Lab::new(plan)?;
        let folder = std::env::temp_dir().join(format!(
            "sm-way-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(&folder)?;
        let resolv_conf = folder.join("resolv.conf");
        std::fs::write(&resolv_conf, format!("nameserver {}\n", plan.resolvers[0]))?;
        let network = lab.toml(&format!(
            "resolv_conf = \"{}\"\nbackup_gateways = [\"{}\"]\nbackup_resolvers = [\"{}\"]\nnames = [\"a.example\"]\ntimeout = \"500ms\"\n{lines}",
            resolv_conf.display(),
            plan.routers[1], plan.resolvers[1]
        ));
        let config = format!(
            "{network}\n[policy]\nboot_grace = \"0s\"\n[[remedy]]\ndetector = \"network_broken\"\non = [\"uplink\"]\naction = \"repair_network\"\nwith = {{ confirm_within = \"2500ms\" }}\n"
        );
        let stage = Self {
            ways: Ways::new(&folder),
            lab,
            config,
            folder,
        };
        stage.ways.configure(&stage.parsed()?.networks)?;
        let well = stage.look()?;
        ensure!(well.fault.is_none(), "{well:#?}");
        stage.known()?.learn(&well);
        Ok(stage)
    }

    fn parsed(&self) -> Result<Config> {
        let parsed = Config::parse(&self.config, Path::new("test.toml"));
        parsed.map_err(|error| anyhow::anyhow!(error.render()))
    }

    fn known(&self) -> Result<std::sync::Arc<Known>> {
        self.ways.all().pop().context("it is configured")
    }

    fn look(&self) -> Result<Diagnosis> {
        let known = self.known()?;
        Ok(self.lab.host.inside(|| known.look(false))?)
    }

    /// The core's consent to repair what is found now; none when it has nothing to do about it.
    fn permit(&self) -> Result<Option<Permit>> {
        let settings = self.parsed()?.settings(false, &[1], &[]);
        let mut engine = Engine::new(settings, IncidentId(1));
        let mut orders = Vec::new();
        let sample = Sample::NetworkDiagnosis {
            diagnosis: Box::new(self.look()?),
        };
        let at = Time::from_nanos(100_000_000_000_000);
        engine.observe(&Signal::Sample { sample }, at, at, &mut orders);
        Ok(orders.into_iter().find_map(|order| match order {
            Order::Execute { permit, .. } => Some(permit),
            Order::Record(_) | Order::Releases { .. } => None,
        }))
    }

    fn host(&self) -> Real<'_> {
        Real {
            ways: &self.ways,
            journal: Mutex::default(),
            full: false,
            before: Box::new(|| ()),
        }
    }

    fn execute(&self, host: &Real<'_>) -> Result<Effect> {
        let permit = self.permit()?.context("it was not permitted")?;
        Ok(self
            .lab
            .host
            .inside(|| actions::execute(permit, None, host)))
    }

    fn resolv_conf(&self) -> PathBuf {
        self.folder.join("resolv.conf")
    }
}

fn failed(effect: &Effect, why: &str) -> Result<()> {
    let (EffectResult::Failed { reason } | EffectResult::Refused { reason }) = &effect.result
    else {
        anyhow::bail!("it was done: {effect:?}");
    };
    ensure!(reason.contains(why), "{reason}");
    Ok(())
}

#[test]
fn every_fault_is_repaired_in_both_families_and_its_way_back_is_known_before() -> Result<()> {
    for plan in [V4, V6] {
        let stage = Stage::new(plan, "")?;
        for fault in Fault::ALL {
            let before = stage.lab.state()?;
            fault.inject(&stage.lab, &stage.resolv_conf())?;
            let host = stage.host();
            let effect = stage.execute(&host).with_context(|| format!("{fault:?}"))?;
            ensure!(
                matches!(effect.result, EffectResult::Done { .. }) && effect.verified.is_some(),
                "{fault:?}: {effect:#?}"
            );
            ensure!(stage.lab.flows(), "{fault:?}");
            let journal = host.journal.into_inner().expect("nobody panics with it");
            ensure!(!journal.is_empty(), "{fault:?}");
            let stopgap = matches!(fault, Fault::GatewaySilent | Fault::ResolverSilent);
            ensure!(effect.undo.is_some() == stopgap, "{fault:?}: {effect:#?}");
            if let Some(undo) = &effect.undo {
                undone(&stage, undo, *fault)?;
            }
            ensure!(
                stage.lab.state()? == before,
                "{fault:?}: {before}\n{}",
                stage.lab.state()?
            );
        }
    }
    Ok(())
}

/// Only once what it stands for is back, a stopgap is changed back.
fn undone(stage: &Stage, undo: &Plan, fault: Fault) -> Result<()> {
    let Plan::RevertNetwork { steps, only_if, .. } = undo else {
        anyhow::bail!("{undo:?}");
    };
    let primary = only_if.as_ref().context("it is a stopgap")?;
    let turn = stage.ways.turn("uplink")?;
    ensure!(
        !stage.lab.host.inside(|| turn.answers(primary))?,
        "{fault:?}"
    );
    fault.lift(&stage.lab)?;
    smart_monitor_tests::wait_until(smart_monitor_tests::PATIENCE, "it answers again", || {
        stage
            .lab
            .host
            .inside(|| turn.answers(primary))
            .ok()?
            .then_some(())
    })?;
    for step in steps {
        ensure!(stage.lab.host.inside(|| turn.apply(step))?, "{step:?}");
    }
    drop(turn);
    let found = stage.look()?;
    ensure!(found.fault.is_none(), "{found:#?}");
    Ok(())
}

#[test]
fn a_file_that_somebody_has_edited_since_is_left_alone_and_said_to_be() -> Result<()> {
    let stage = Stage::new(V4, "")?;
    let fault = Fault::ResolverSilent;
    fault.inject(&stage.lab, &stage.resolv_conf())?;
    let undo = stage.execute(&stage.host())?.undo;
    let undo = undo.context("a backup resolver is a stopgap")?;
    let Plan::RevertNetwork { steps, .. } = &undo else {
        anyhow::bail!("{undo:?}");
    };
    let [step] = steps.as_slice() else {
        anyhow::bail!("{steps:?}");
    };
    ensure!(left_alone(step).is_none(), "nobody has edited it yet");
    let mut edited = std::fs::read_to_string(stage.resolv_conf())?;
    edited.push_str("search example.org\n");
    std::fs::write(stage.resolv_conf(), &edited)?;
    let said = left_alone(step).context("it was edited")?;
    let wanted = format!(
        "{} was changed by somebody else since: left as it is; remove the line `nameserver {}` by hand",
        stage.resolv_conf().display(),
        V4.resolvers[1]
    );
    ensure!(said == wanted, "{said}");
    ensure!(apply(step).is_err());
    ensure!(std::fs::read_to_string(stage.resolv_conf())? == edited);
    Ok(())
}

#[test]
fn what_is_no_fault_is_not_called_one() -> Result<()> {
    let stage = Stage::new(V4, "")?;
    let lab = &stage.lab;
    lab.routers[0].sysctl("net.ipv4.icmp_echo_ignore_all", "1")?;
    let found = stage.look()?;
    ensure!(
        found.fault.is_none(),
        "a gateway that drops pings: {found:#?}"
    );
    lab.routers[0].ip(&format!("addr del {}/32 dev lo", V4.far[0]))?;
    let found = stage.look()?;
    ensure!(found.fault.is_none(), "one anchor of two: {found:#?}");
    // Both are gone, and the gateway answers nothing but who has its address: that is upstream.
    lab.routers[0].ip(&format!("addr del {}/32 dev lo", V4.far[1]))?;
    lab.routers[0].ip("route add blackhole 10.99.0.0/24")?;
    let found = stage.look()?;
    ensure!(found.fault == Some(NetworkFault::Upstream), "{found:#?}");
    ensure!(stage.permit()?.is_none(), "there is nothing to repair here");
    Ok(())
}

#[test]
fn what_cannot_be_repaired_is_named_and_left_alone() -> Result<()> {
    let stage = Stage::new(V4, "")?;
    let lab = &stage.lab;
    let before = lab.state()?;
    lab.switch.ip("link set host down")?;
    let found = stage.look()?;
    ensure!(found.fault == Some(NetworkFault::NoCarrier), "{found:#?}");
    ensure!(stage.permit()?.is_none(), "nobody can plug it in from here");
    lab.switch.ip("link set host up")?;
    // Both gateways are silent: what is believed of the first is asked anew, in vain, and then believed again or not known.
    lab.switch.ip("link set r0 down")?;
    lab.switch.ip("link set r1 down")?;
    let host = stage.host();
    if stage.permit()?.is_some() {
        let effect = stage.execute(&host)?;
        failed(&effect, "nothing is left changed")?;
        ensure!(effect.undo.is_none(), "{effect:?}");
    }
    ensure!(lab.state()? == before, "{before}\n{}", lab.state()?);
    Ok(())
}

#[test]
fn a_repair_that_does_not_help_is_changed_back_by_itself() -> Result<()> {
    let stage = Stage::new(V4, "")?;
    let lab = &stage.lab;
    for fault in [Fault::LinkOff, Fault::AddressLost, Fault::RouteWrong] {
        for port in ["r0", "r1"] {
            lab.switch.ip(&format!("link set {port} down"))?;
        }
        fault.inject(lab, &stage.resolv_conf())?;
        let broken = lab.state()?;
        let effect = stage.execute(&stage.host())?;
        failed(&effect, "nothing is left changed")?;
        ensure!(
            effect.acted.is_some() && effect.undo.is_none(),
            "{effect:?}"
        );
        ensure!(
            lab.state()? == broken,
            "{fault:?}: {broken}\n{}",
            lab.state()?
        );
        for port in ["r0", "r1"] {
            lab.switch.ip(&format!("link set {port} up"))?;
        }
        let effect = stage.execute(&stage.host())?;
        ensure!(
            matches!(effect.result, EffectResult::Done { .. }),
            "{fault:?}: {effect:#?}"
        );
    }
    Ok(())
}

#[test]
fn a_device_that_vanishes_or_gets_another_name_meanwhile_is_left_alone() -> Result<()> {
    let stage = Stage::new(V4, "")?;
    let lab = &stage.lab;
    lab.host.ip(&format!("link set {DEVICE} down"))?;
    // Between the plan and the first change.
    let mut host = stage.host();
    host.before = Box::new(|| {
        lab.host
            .ip(&format!("link set {DEVICE} name other"))
            .expect("it can be renamed");
    });
    let effect = stage.execute(&host)?;
    failed(&effect, "is called other by now")?;
    ensure!(
        matches!(effect.result, EffectResult::Refused { .. }),
        "{effect:?}"
    );
    // It is followed by its number, and repaired by its new name.
    let found = stage.look()?;
    ensure!(found.seen.device.name == "other", "{found:#?}");
    let effect = stage.execute(&stage.host())?;
    ensure!(
        matches!(effect.result, EffectResult::Done { .. }),
        "{effect:#?}"
    );
    lab.host.ip("link set other down")?;
    host.before = Box::new(|| {
        lab.host.ip("link del other").expect("it can be removed");
    });
    let effect = stage.execute(&host)?;
    failed(&effect, "is gone")?;
    ensure!(stage.permit()?.is_none(), "there is nothing left to repair");
    ensure!(stage.look()?.fault == Some(NetworkFault::NoDevice));
    Ok(())
}

#[test]
fn a_device_that_vanishes_before_it_is_changed_back_needs_nothing_back() -> Result<()> {
    let stage = Stage::new(V4, "")?;
    let lab = &stage.lab;
    for port in ["r0", "r1"] {
        lab.switch.ip(&format!("link set {port} down"))?;
    }
    lab.host.ip(&format!("link set {DEVICE} down"))?;
    let effect = std::thread::scope(|scope| {
        // As soon as it is switched on, it is removed.
        let remover = scope.spawn(|| {
            let on = smart_monitor_tests::wait_until(smart_monitor_tests::PATIENCE, "on", || {
                let link = lab.host.ip(&format!("-br link show dev {DEVICE}")).ok()?;
                (!link.contains("DOWN")).then_some(())
            });
            on.and_then(|()| lab.host.ip(&format!("link del {DEVICE}")))
        });
        let effect = stage.execute(&stage.host());
        remover.join().expect("it ends well")?;
        effect
    })?;
    failed(&effect, "")?;
    ensure!(
        effect.undo.is_none(),
        "nothing is left to change back: {effect:?}"
    );
    Ok(())
}

#[test]
fn without_the_right_to_nothing_is_changed_and_the_right_is_named() -> Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    let stage = Stage::new(V4, "")?;
    stage.lab.host.ip(&format!("link set {DEVICE} down"))?;
    let permit = stage.permit()?.context("it was not permitted")?;
    let host = stage.host();
    let effect = stage.lab.host.inside(|| -> Result<Effect> {
        let had: CapabilitySets = capabilities(None)?;
        // Of this thread alone, which ends with this.
        let left = CapabilitySets {
            effective: had.effective - CapabilitySet::NET_ADMIN,
            permitted: had.permitted - CapabilitySet::NET_ADMIN,
            inheritable: had.inheritable,
        };
        set_capabilities(None, left)?;
        Ok(actions::execute(permit, None, &host))
    })?;
    failed(&effect, "CAP_NET_ADMIN is missing")?;
    ensure!(
        effect.acted.is_none() && effect.undo.is_none(),
        "{effect:?}"
    );
    Ok(())
}

#[test]
fn what_cannot_be_written_down_is_not_done_and_one_repairs_at_a_time() -> Result<()> {
    let stage = Stage::new(V4, "")?;
    stage.lab.host.ip(&format!("link set {DEVICE} down"))?;
    let broken = stage.lab.state()?;
    let mut host = stage.host();
    host.full = true;
    failed(&stage.execute(&host)?, "the journal cannot be written")?;
    host.full = false;
    let turn = stage.ways.turn("uplink")?;
    let effect = stage.execute(&host)?;
    failed(&effect, "is being changed by another act")?;
    ensure!(
        matches!(effect.result, EffectResult::Refused { .. }),
        "{effect:?}"
    );
    ensure!(stage.lab.state()? == broken);
    drop(turn);
    ensure!(matches!(
        stage.execute(&host)?.result,
        EffectResult::Done { .. }
    ));
    // Well by now: what was planned before is not begun.
    stage.lab.host.ip(&format!("link set {DEVICE} down"))?;
    let permit = stage.permit()?.context("it was not permitted")?;
    stage.execute(&host)?;
    let late = stage
        .lab
        .host
        .inside(|| actions::execute(permit, None, &host));
    failed(&late, "gets packets through by now")
}

#[test]
fn a_step_that_is_so_already_changes_nothing() -> Result<()> {
    let lab = Lab::new(V4)?;
    let index = lab.host.ip(&format!("-o link show dev {DEVICE}"))?;
    let index = index.split(':').next().context("its number")?.parse()?;
    let device = Device {
        index,
        name: DEVICE.to_owned(),
    };
    let on = NetworkStep::Link { device, up: true };
    let off = on.inverse().context("it can be changed back")?;
    lab.host.inside(|| -> Result<()> {
        ensure!(has(&on)? && !has(&off)? && !apply(&on)?);
        ensure!(apply(&off)? && has(&off)? && apply(&on)?);
        Ok(())
    })
}
