//! Tells the service manager that started the process how it fares: sd_notify(3), datagrams to a socket that it names.

use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;

use secrecy::ExposeSecret as _;

use crate::config::Environment;

/// Who started the process and wants to hear of it; often nobody does.
#[derive(Clone, Debug, Default)]
pub struct ServiceManager(Option<Arc<UnixDatagram>>);

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Requests are served, by the configuration as it is now. Also: this is the main process, whoever was before.
    Ready,
    Reloading,
    Stopping,
}

impl ServiceManager {
    /// Whom `NOTIFY_SOCKET` names. One that cannot be reached is told once, and not spoken to.
    pub fn of(environment: &Environment) -> ServiceManager {
        let Ok(name) = environment.read("NOTIFY_SOCKET") else { return ServiceManager::default() };
        match connect(name.expose_secret()) {
            Ok(socket) => ServiceManager(Some(Arc::new(socket))),
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET names a service manager that cannot be reached");
                ServiceManager::default()
            }
        }
    }

    pub fn tell(&self, news: News) {
        let Some(socket) = &self.0 else { return };
        let state = match news {
            News::Ready => format!("READY=1\nMAINPID={}\nSTATUS=Serving\n", std::process::id()),
            News::Reloading => "RELOADING=1\nSTATUS=Reading the configuration\n".to_owned(),
            News::Stopping => "STOPPING=1\nSTATUS=Requests in flight finish\n".to_owned(),
        };
        if let Err(error) = socket.send(state.as_bytes()) {
            tracing::warn!(%error, ?news, "the service manager could not be told");
        }
    }
}

fn connect(name: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // It is not worth waiting for.
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address(name)?)?;
    Ok(socket)
}

/// A path, or on Linux `@` and a name without one.
fn address(name: &str) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix('@') {
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(by: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = by.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_hears_what_happens_by_either_kind_of_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("tollgate-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        for (manager, name) in [
            (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
            (UnixDatagram::bind_addr(&address).unwrap(), format!("@{abstract_name}")),
        ] {
            let told = ServiceManager::of(&Environment::empty().with("NOTIFY_SOCKET", name));
            told.tell(News::Ready);
            let ready = heard(&manager);
            assert!(ready.contains("READY=1\n"), "{ready}");
            assert!(ready.contains(&format!("MAINPID={}\n", std::process::id())), "{ready}");
            told.tell(News::Reloading);
            assert!(heard(&manager).starts_with("RELOADING=1\n"));
            told.tell(News::Stopping);
            assert!(heard(&manager).starts_with("STOPPING=1\n"));
        }
    }

    #[test]
    fn without_a_manager_nothing_is_told_and_nothing_fails() {
        ServiceManager::of(&Environment::empty()).tell(News::Ready);
        ServiceManager::of(&Environment::empty().with("NOTIFY_SOCKET", "/nowhere/notify")).tell(News::Ready);
    }
}
