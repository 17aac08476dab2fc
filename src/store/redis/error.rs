//! What the errors of servers and of the client library mean to us.

use redis::{ErrorKind, RedisError, ServerError};

use super::super::remote::StoreError;
use super::super::remote::error_reply::of_code;
pub(super) use super::super::remote::error_reply::plain;

/// The meaning of an error that the library tells: of the connection, of the stream, or what a
/// server said during the handshake.
pub(super) fn of_library(error: RedisError) -> StoreError {
    let error = match ServerError::try_from(error) {
        Ok(said) => return of_server(&said),
        Err(error) => error,
    };
    match error.kind() {
        // Its own limit on answers lies above ours and speaks only if ours was not there.
        ErrorKind::Io if error.is_timeout() => StoreError::Timeout,
        ErrorKind::Io => StoreError::Disconnected(plain(&error.to_string())),
        ErrorKind::Parse if error.detail().is_some_and(|text| text.contains("end of input")) => {
            StoreError::Disconnected("the connection ended within an answer".into())
        }
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            StoreError::Garbage("not the protocol of Redis".into())
        }
        ErrorKind::AuthenticationFailed => StoreError::Auth(plain(&error.to_string())),
        // The rest says no to us before anything was sent, or is made up of what servers said.
        _ => match error.code() {
            Some(code) => of_code(code, error.detail().unwrap_or_default()),
            None => StoreError::Refused(plain(&error.to_string())),
        },
    }
}

/// The meaning of an error that a server answered.
pub(super) fn of_server(said: &ServerError) -> StoreError {
    of_code(said.code(), said.details().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server's line means.
    fn check(line: &str, meaning: StoreError) {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let redis::Value::ServerError(said) = value else { panic!("{line} is an error") };
        assert_eq!(of_server(&said), meaning, "{line}");
        assert_eq!(of_library(RedisError::from(said)), meaning, "{line}, through the library");
    }

    #[test]
    fn errors_of_servers_are_known_by_their_meaning() {
        let auth = |text: &str| StoreError::Auth(text.into());
        let cluster = |text: &str| StoreError::Cluster(text.into());
        let refused = |text: &str| StoreError::Refused(text.into());
        check("NOAUTH Authentication required.", auth("NOAUTH Authentication required."));
        check("WRONGPASS invalid username-password pair", auth("WRONGPASS invalid username-password pair"));
        check("NOPERM this user has no permissions", auth("NOPERM this user has no permissions"));
        check("READONLY You can't write against a read only replica.", StoreError::ReadOnly);
        check("LOADING Redis is loading the dataset in memory", StoreError::Loading);
        check("MASTERDOWN Link with MASTER is down", StoreError::Loading);
        check("OOM command not allowed when used memory > 'maxmemory'.", StoreError::OutOfMemory);
        check("WRONGTYPE Operation against a key holding the wrong kind of value", StoreError::WrongType);
        check("CLUSTERDOWN The cluster is down", cluster("CLUSTERDOWN The cluster is down"));
        check("TRYAGAIN Multiple keys", cluster("TRYAGAIN Multiple keys"));
        check("CROSSSLOT Keys in request", cluster("CROSSSLOT Keys in request"));
        check("MOVED 12 127.0.0.1:1", cluster("MOVED 12 127.0.0.1:1"));
        check("BUSY Redis is busy running a script.", refused("BUSY Redis is busy running a script."));
        check("ERR unknown command", refused("ERR unknown command"));
        check("NOREPLICAS Not enough good replicas", refused("NOREPLICAS Not enough good replicas"));
        check("STRANGE", refused("STRANGE"));
    }

    #[test]
    fn errors_inside_a_script_are_found() {
        let script = "script: 5e1e, on @user_script:3.";
        check(
            &format!("OOM command not allowed when used memory > 'maxmemory'. {script}"),
            StoreError::OutOfMemory,
        );
        check(&format!("WRONGTYPE Operation against a key. {script}"), StoreError::WrongType);
        let old = "ERR Error running script (call to f_5e1e): @user_script:3: ";
        check(&format!("{old}-OOM command not allowed"), StoreError::OutOfMemory);
        check(&format!("{old}WRONGTYPE Operation against a key"), StoreError::WrongType);
        check(&format!("{old}@user_script: 3: -READONLY You can't write"), StoreError::ReadOnly);
        check("ERR the word OOM elsewhere", StoreError::Refused("ERR the word OOM elsewhere".into()));
    }

    #[test]
    fn errors_of_the_connection_are_told_apart() {
        let of = |kind: std::io::ErrorKind| of_library(RedisError::from(std::io::Error::from(kind)));
        assert!(matches!(of(std::io::ErrorKind::BrokenPipe), StoreError::Disconnected(_)));
        assert!(matches!(of(std::io::ErrorKind::ConnectionRefused), StoreError::Disconnected(_)));
        assert_eq!(of(std::io::ErrorKind::TimedOut), StoreError::Timeout);
        let parse = redis::parse_redis_value(b"HTTP/1.1 400 Bad Request\r\n").unwrap_err();
        assert!(matches!(of_library(parse), StoreError::Garbage(_)));
        let auth = RedisError::from((ErrorKind::AuthenticationFailed, "Password authentication failed"));
        assert!(matches!(of_library(auth), StoreError::Auth(_)));
    }
}
