//! Scripts on the wire.

use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerError, ServerErrorKind, Value};

use super::super::remote::{Call, Piece};
use super::wire::{Trouble, Wire, accept};

/// How a server is to take a command for a slot that is being moved to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Owner,
    /// Another server sent us here for this once (`ASK`).
    Importing,
}

/// Runs a script. If the server does not know it, it is sent with its source over the same
/// connection: nothing has run then, so that is no repetition.
pub(super) async fn run(wire: &Wire, call: &Call<'_>, standing: Standing) -> Result<Vec<Piece>, Trouble> {
    let known = ask(wire, command("EVALSHA", &call.script.sha1, call), standing).await;
    let answer = match known {
        Err(Trouble::Said(said)) if is_unknown_script(&said) => {
            ask(wire, command("EVAL", &call.script.source, call), standing).await
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

fn command(name: &str, script: &str, call: &Call<'_>) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(call.keys.len());
    call.keys.iter().for_each(|key| {
        command.arg(key);
    });
    call.args.iter().for_each(|arg| {
        command.arg(arg.as_slice());
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
    use smallvec::smallvec;

    use super::super::super::remote::Script;
    use super::*;

    #[test]
    fn arguments_are_sent_as_they_are() {
        let script = Script { source: "return {}".into(), sha1: "5e1e".into() };
        let keys = smallvec!["a".to_owned(), "b".to_owned()];
        let call = Call { script: &script, keys, args: smallvec![vec![0, 13, 10, 255], vec![]] };
        let sent = command("EVALSHA", &script.sha1, &call).get_packed_command();
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
