//! Injects one fault after the other and follows what the daemon makes of it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::api;
use super::scenarios::{self, Scenario};
use super::session::Session;
use super::setup::Setup;
use super::story::{Story, is_settled};
use super::table::Table;
use crate::model::IncidentId;
use crate::simulate::fault_client;

/// Time between two looks at the daemon. Nothing is timed by it: the times are the daemon's.
const LOOK: Duration = Duration::from_millis(50);
/// How long the daemon may take to observe.
const UP_WITHIN: Duration = Duration::from_secs(15);

/// Tries every fault. Fails when the daemon does; a loop that does not close is no failure here.
pub(super) async fn drive(
    session: &mut Session,
    setup: &Setup,
    table: &mut Table,
    stories: &mut Vec<Story>,
    deadline: Duration,
) -> Result<()> {
    wait_until_up(session).await?;
    table.header();
    for scenario in scenarios::ALL {
        let story = follow(session, setup, table, scenario, deadline).await?;
        table.finish(&story);
        stories.push(story);
    }
    Ok(())
}

async fn wait_until_up(session: &mut Session) -> Result<()> {
    let begin = Instant::now();
    while let Some(trouble) = api::trouble(&session.socket()).await {
        session.check()?;
        if begin.elapsed() > UP_WITHIN {
            bail!("the daemon did not begin to observe within {UP_WITHIN:?}: {trouble}");
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn follow(
    session: &mut Session,
    setup: &Setup,
    table: &mut Table,
    scenario: &'static Scenario,
    deadline: Duration,
) -> Result<Story> {
    let mut story = Story::new(scenario);
    table.update(&story);
    let Some(last) = wait_until_calm(session, deadline).await? else {
        story.failure = Some("the services were not well before it".to_owned());
        return Ok(story);
    };
    let settings = scenario
        .settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let address = setup.address(scenario.service)?;
    if let Err(error) = fault_client::inject(address, scenario.kind, &settings) {
        story.failure = Some(error.to_string());
        return Ok(story);
    }
    let begin = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        session.check()?;
        let mut incidents = api::incidents(&session.socket()).await?;
        incidents.retain(|incident| last.is_none_or(|last| incident.id > last));
        story.incidents = incidents;
        table.update(&story);
        if story.closed() {
            return Ok(story);
        }
        if begin.elapsed() > deadline {
            story.failure = Some(story.missing(deadline));
            return Ok(story);
        }
    }
}

/// Waits until every service serves and no incident is open, so that what comes next is the next fault's. Returns the last
/// incident so far; the outer option is empty when there is no calm.
async fn wait_until_calm(
    session: &mut Session,
    deadline: Duration,
) -> Result<Option<Option<IncidentId>>> {
    let begin = Instant::now();
    loop {
        session.check()?;
        let view = api::view(&session.socket()).await?;
        let incidents = api::incidents(&session.socket()).await?;
        let calm = view.services.values().all(|view| view.service.serves())
            && incidents.iter().all(is_settled);
        if calm {
            return Ok(Some(incidents.last().map(|incident| incident.id)));
        }
        if begin.elapsed() > deadline {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
}
