//! What the error replies of Redis mean to us, however they reach us.

use super::StoreError;

/// Bytes of a server's text that are kept: enough to know it by.
const TEXT_BYTES_MAX: usize = 200;

/// The meaning of an error reply, its leading `-` taken off: a code in capitals and a text.
pub(in crate::store) fn read(line: &str) -> StoreError {
    let (code, text) = line.split_once(' ').unwrap_or((line, ""));
    of_code(code, text)
}

/// The meaning of an error reply of which the code was split off.
pub(in crate::store) fn of_code(code: &str, text: &str) -> StoreError {
    let both = || plain(&format!("{code} {text}"));
    match code {
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => StoreError::Auth(both()),
        "READONLY" => StoreError::ReadOnly,
        "LOADING" | "MASTERDOWN" => StoreError::Loading,
        "OOM" => StoreError::OutOfMemory,
        // The second is of our own scripts, about a state that is not one.
        "WRONGTYPE" | "GARBAGE" => StoreError::WrongType,
        "CLUSTERDOWN" | "TRYAGAIN" | "CROSSSLOT" | "MOVED" | "ASK" => StoreError::Cluster(both()),
        "ERR" => match code_in_script(text) {
            Some(inner) => of_code(inner, text),
            None => StoreError::Refused(both()),
        },
        _ => StoreError::Refused(both()),
    }
}

/// Whether the server wants the source of a script that was named by its SHA-1. It ran nothing.
pub(in crate::store) fn is_unknown_script(line: &str) -> bool {
    line.starts_with("NOSCRIPT")
}

/// The code of a command's error around which older servers (before Redis 7) wrap one of the script,
/// as in `ERR Error running script (call to f_…): @user_script:3: -OOM command not allowed …`.
fn code_in_script(text: &str) -> Option<&'static str> {
    const CODES: [&str; 8] =
        ["OOM", "WRONGTYPE", "READONLY", "LOADING", "MASTERDOWN", "NOPERM", "CLUSTERDOWN", "TRYAGAIN"];
    if !text.contains("script") {
        return None;
    }
    let mut words = text.split(|c: char| c.is_whitespace() || c == ':');
    words.find_map(|word| CODES.into_iter().find(|code| word.trim_start_matches('-') == *code))
}

/// A text from outside as part of one line: bounded, and without what steers a terminal.
pub(in crate::store) fn plain(text: &str) -> Box<str> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    let is_kept = |(at, c): &(usize, char)| at + c.len_utf8() <= TEXT_BYTES_MAX;
    let visible = |(_, c): (usize, char)| if c.is_control() { ' ' } else { c };
    text.char_indices().take_while(is_kept).map(visible).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: StoreError) {
        assert_eq!(read(text), expected, "{text}");
    }

    #[test]
    fn a_reply_is_known_by_its_code() {
        check("READONLY You can't write against a read only replica.", StoreError::ReadOnly);
        check("MASTERDOWN Link with MASTER is down", StoreError::Loading);
        check("LOADING Redis is loading the dataset in memory", StoreError::Loading);
        check(
            "OOM command not allowed when used memory > 'maxmemory'. script: ab, on @user_script:1.",
            StoreError::OutOfMemory,
        );
        check("WRONGTYPE Operation against a key holding the wrong kind of value", StoreError::WrongType);
        check("GARBAGE the state of tg:1:x is not one of ours", StoreError::WrongType);
        for text in
            ["NOAUTH Authentication required.", "WRONGPASS invalid", "NOPERM this user has no permissions"]
        {
            check(text, StoreError::Auth(text.into()));
        }
        for text in ["MOVED 3999 127.0.0.1:6381", "CLUSTERDOWN The cluster is down", "TRYAGAIN Multiple keys"]
        {
            check(text, StoreError::Cluster(text.into()));
        }
    }

    #[test]
    fn a_code_is_found_inside_what_older_servers_wrap() {
        let in_script = "ERR Error running script (call to f_0a): @user_script:7: ";
        check(&format!("{in_script}-OOM command not allowed"), StoreError::OutOfMemory);
        check(&format!("{in_script}WRONGTYPE Operation against a key"), StoreError::WrongType);
        check(&format!("{in_script}-READONLY You can't write"), StoreError::ReadOnly);
    }

    #[test]
    fn what_is_unknown_is_a_refusal_that_can_be_logged() {
        check(
            "ERR max daily request limit exceeded",
            StoreError::Refused("ERR max daily request limit exceeded".into()),
        );
        // A code counts only where a code stands.
        check("BUSY not LOADING", StoreError::Refused("BUSY not LOADING".into()));
        check("ERR the word OOM elsewhere", StoreError::Refused("ERR the word OOM elsewhere".into()));
        check("", StoreError::Refused("".into()));
    }

    #[test]
    fn texts_are_one_short_line() {
        assert_eq!(&*plain(" a\u{1b}[31m\r\nb\0 "), "a [31m  b");
        assert_eq!(plain(&"\u{fc}".repeat(400)).len(), TEXT_BYTES_MAX);
        assert_eq!(plain(&format!("a{}", "\u{fc}".repeat(400))).len(), TEXT_BYTES_MAX - 1);
    }

    #[test]
    fn an_unknown_script_is_no_failure() {
        assert!(is_unknown_script("NOSCRIPT No matching script. Please use EVAL."));
        assert!(!is_unknown_script("ERR NOSCRIPT"));
    }
}
