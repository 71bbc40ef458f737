//! How a connection to a manager is made.

use std::path::PathBuf;

use zbus::connection::Builder;
use zbus::{Connection, MessageStream};

use super::{
    ANSWER, BUS, CONNECTING, Failed, INTERFACE, MANAGER, Manager, NAME, UNITS, call, failed,
};
use crate::host::as_user::connect_as;

/// Connects to it, and has itself told of changes.
pub(in crate::supervisors::systemd) async fn connect(
    manager: Manager,
) -> Result<(Connection, MessageStream), String> {
    let Manager::User(uid) = manager else {
        return attempt(Builder::system()).await.map_err(|why| {
            format!(
                "systemd cannot be asked by way of the system bus: {why}: is this host run by systemd, with dbus, and is the daemon root?"
            )
        });
    };
    let path = PathBuf::from(format!("/run/user/{uid}/bus"));
    let named = path.display().to_string();
    let connects = tokio::task::spawn_blocking(move || connect_as(path, uid));
    let made = match connects.await {
        Ok(Ok(stream)) => attempt(Builder::unix_stream(stream).user_id(uid)).await,
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    made.map_err(|why| {
        format!(
            "systemd of user {uid} cannot be asked by way of the user's bus at {named}: {why}; it runs while the user is logged in, or after `loginctl enable-linger`, and needs the package dbus-user-session"
        )
    })
}

async fn attempt(builder: Builder<'_>) -> Result<(Connection, MessageStream), String> {
    let made = async {
        let bus = builder.method_timeout(ANSWER).build().await?;
        let heard = MessageStream::from(&bus);
        let rules = [
            format!(
                "type='signal',sender='{NAME}',interface='org.freedesktop.DBus.Properties',path_namespace='{UNITS}'"
            ),
            format!("type='signal',sender='{NAME}',interface='{INTERFACE}',member='JobRemoved'"),
            format!("type='signal',sender='{NAME}',interface='{INTERFACE}',member='Reloading'"),
            format!("type='signal',sender='{BUS}',member='NameOwnerChanged',arg0='{NAME}'"),
        ];
        for rule in rules {
            let path = "/org/freedesktop/DBus";
            bus.call_method(Some(BUS), path, Some(BUS), "AddMatch", &rule)
                .await?;
        }
        match call(&bus, MANAGER, INTERFACE, "Subscribe", &()).await {
            Ok(_) => {}
            Err(zbus::Error::MethodError(name, ..)) if name.contains("AlreadySubscribed") => {}
            Err(error) => return Err(error),
        }
        Ok((bus, heard))
    };
    match tokio::time::timeout(CONNECTING, made).await {
        Ok(made) => made.map_err(|error| match failed(error) {
            Failed::Refused(why) | Failed::Lost(why) => why,
        }),
        Err(_) => Err(format!("no answer within {CONNECTING:?}")),
    }
}
