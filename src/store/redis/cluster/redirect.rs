//! Being sent to another server.

use super::super::url::host_and_port;
use super::super::wire::Trouble;
use super::topology::Address;

/// Where a command should have gone. It has not run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// The slot lies there for good.
    Moved(Address),
    /// The slot is on its way there: for this once.
    Ask(Address),
}

impl Redirect {
    /// `MOVED 3999 127.0.0.1:6381`, if that is what was said. Without a host it is the one of
    /// `told_by`.
    pub(super) fn in_answer(trouble: &Trouble, told_by: &Address) -> Option<Redirect> {
        let Trouble::Said(said) = trouble else { return None };
        let kind = match said.code() {
            "MOVED" => Redirect::Moved,
            "ASK" => Redirect::Ask,
            _ => return None,
        };
        let (_, place) = said.details()?.split_once(' ')?;
        let (host, port) = place.trim_end().rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match host {
            "?" => None,
            "" => Some(kind(Address { host: told_by.host.clone(), port })),
            host => Some(kind(Address { host: host.into(), port })),
        }
    }
}

impl Address {
    /// For people.
    pub(super) fn shown(&self) -> String {
        host_and_port(&self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Redirect> {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let redis::Value::ServerError(said) = value else { panic!("{line} is an error") };
        Redirect::in_answer(&Trouble::Said(said), &Address { host: "me".into(), port: 1 })
    }

    #[test]
    fn redirections_name_a_server() {
        let at = |host: &str, port| Address { host: host.into(), port };
        let cases = [
            ("MOVED 3999 127.0.0.1:6381", Some(Redirect::Moved(at("127.0.0.1", 6381)))),
            ("ASK 3999 node-2.example:6381", Some(Redirect::Ask(at("node-2.example", 6381)))),
            ("MOVED 3999 ::1:6381", Some(Redirect::Moved(at("::1", 6381)))),
            ("MOVED 3999 [::1]:6381", Some(Redirect::Moved(at("::1", 6381)))),
            ("MOVED 3999 :6381", Some(Redirect::Moved(at("me", 6381)))),
            ("MOVED 3999 ?:0", None),
            ("MOVED 3999 h:70000", None),
            ("MOVED 3999", None),
            ("MOVED", None),
            ("ERR MOVED 1 h:1", None),
        ];
        for (line, redirect) in cases {
            assert_eq!(read(line), redirect, "{line}");
        }
    }
}
