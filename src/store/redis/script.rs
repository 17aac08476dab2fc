//! Scripts on the wire.

use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerError, ServerErrorKind, Value};

use super::super::remote::StoreError;
use super::super::remote::call::{Answer, Bundle, Call, Piece, answers};
use super::wire::{Trouble, Wire, accept};

/// How a server is to take a command for a slot that is being moved to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Owner,
    /// Another server sent us here for this once (`ASK`).
    Importing,
}

/// Runs a script once for all calls. If the server does not know it, it is sent with its source
/// over the same connection: nothing has run then, so that is no repetition.
pub(super) async fn run(
    wire: &Wire,
    calls: &[Call],
    standing: Standing,
) -> Result<Vec<Result<Answer, StoreError>>, Trouble> {
    let Some(bundle) = Bundle::of(calls) else { return Ok(Vec::new()) };
    answers(run_bundle(wire, &bundle, standing).await?, calls).map_err(Trouble::Failed)
}

/// The same with the answer as the script gives it.
pub(super) async fn run_bundle(
    wire: &Wire,
    bundle: &Bundle<'_>,
    standing: Standing,
) -> Result<Vec<Piece>, Trouble> {
    let known = ask(wire, command("EVALSHA", &bundle.script.sha1, bundle), standing).await;
    let answer = match known {
        Err(Trouble::Said(said)) if is_unknown_script(&said) => {
            ask(wire, command("EVAL", &bundle.script.source, bundle), standing).await
        }
        answer => answer,
    };
    read_pieces(answer?)
}

async fn ask(wire: &Wire, command: Cmd, standing: Standing) -> Result<Value, Trouble> {
    match standing {
        Standing::Owner => wire.ask(&command).await,
        Standing::Importing => {
            // ASKING holds for the next command of a connection, so nobody's may come between.
            let mut both = Pipeline::with_capacity(2);
            both.cmd("ASKING").add_command(command);
            let mut answers = wire.ask_all(&both).await?;
            accept(answers.pop().ok_or_else(|| Trouble::garbage("an answer is missing"))?)
        }
    }
}

fn command(name: &str, script: &str, bundle: &Bundle<'_>) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(bundle.keys.len());
    bundle.keys.iter().for_each(|key| {
        command.arg(key);
    });
    bundle.args.iter().for_each(|arg| {
        command.arg(arg.as_ref());
    });
    command
}

fn is_unknown_script(said: &ServerError) -> bool {
    RedisError::from(said.clone()).kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn read_pieces(answer: Value) -> Result<Vec<Piece>, Trouble> {
    let Value::Array(values) = answer else { return Err(Trouble::garbage("it is no array")) };
    let read = |value| match value {
        Value::Nil => Ok(Piece::Nil),
        Value::Int(number) => Ok(Piece::Int(number)),
        Value::BulkString(bytes) => Ok(Piece::Bytes(bytes)),
        _ => Err(Trouble::garbage("it holds what scripts do not answer")),
    };
    values.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::super::super::remote::call::Script;
    use super::*;

    #[test]
    fn arguments_are_sent_as_they_are() {
        static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new("return {}"));
        let args = vec![vec![0, 13, 10, 255].into(), vec![].into()];
        let bundle = Bundle { script: &SCRIPT, keys: vec!["a", "b"], args };
        let sent = command("EVALSHA", "5e1e", &bundle).get_packed_command();
        let wanted = b"*7\r\n$7\r\nEVALSHA\r\n$4\r\n5e1e\r\n$1\r\n2\r\n$1\r\na\r\n$1\r\nb\r\n$4\r\n\0\r\n\xff\r\n$0\r\n\r\n";
        assert_eq!(sent, wanted);
    }

    #[test]
    fn answers_are_arrays_of_pieces() {
        let read = |text: &[u8]| read_pieces(redis::parse_redis_value(text).unwrap()).ok();
        assert_eq!(read(b"*0\r\n"), Some(vec![]));
        let bytes = Piece::Bytes(vec![0, 255]);
        assert_eq!(
            read(b"*3\r\n:-7\r\n$2\r\n\0\xff\r\n$-1\r\n"),
            Some(vec![Piece::Int(-7), bytes, Piece::Nil])
        );
        for text in [
            b"+OK\r\n" as &[u8],
            b":1\r\n",
            b"$-1\r\n",
            b"*1\r\n*0\r\n",
            b"*1\r\n+OK\r\n",
            b"*1\r\n-ERR\r\n",
            b"%0\r\n",
        ] {
            assert_eq!(read(text), None, "{}", String::from_utf8_lossy(text));
        }
    }
}
