//! What an operator should know of how a server is set up.

use redis::{Pipeline, Value};

use super::server::Server;

/// The oldest version that nothing is missing in: scripts that write what depends on the time
/// are replicated by their effects since 5, and 6.2 is the oldest that is still mended.
const VERSION_MIN: (u32, u32) = (6, 2);

/// What a server was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Single,
    OfCluster,
}

/// A sentence for each thing; nothing if all is well or the server does not tell.
pub(super) async fn of(server: &Server, role: Role) -> Option<String> {
    let mut questions = Pipeline::with_capacity(2);
    questions.cmd("INFO").arg("server").cmd("INFO").arg("memory");
    let answers = server.ask_all(&questions).await.ok()?;
    let sections: Vec<&str> = answers.iter().filter_map(text_of).collect();
    from_info(&sections.join("\n"), role)
}

/// A text, however the protocol wraps it.
pub(super) fn text_of(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

fn from_info(info: &str, role: Role) -> Option<String> {
    let field =
        |name: &str| info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
    let mut advice = Vec::new();
    if role == Role::Single && field("redis_mode") == Some("cluster") {
        advice.push(
            "the server is one of a cluster and serves a part of the keys; write the URLs as a list".into(),
        );
    }
    // Without a bound nothing is ever evicted, whatever the policy.
    let bounded =
        field("maxmemory").and_then(|bytes| bytes.parse::<u64>().ok()).is_some_and(|bytes| bytes > 0);
    if let Some(policy) = field("maxmemory_policy").filter(|policy| bounded && *policy != "noeviction") {
        advice.push(format!(
            "the server drops keys when its memory is full (maxmemory-policy {}), and with a counter its limit begins \
             anew; set maxmemory-policy to noeviction",
            super::error::plain(policy)
        ));
    }
    if let Some(version) = field("redis_version").filter(|version| is_old(version)) {
        advice.push(format!(
            "the server has version {}; 6.2 is the oldest that is supported",
            super::error::plain(version)
        ));
    }
    (!advice.is_empty()).then(|| advice.join(". "))
}

/// Not of what is no version.
fn is_old(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < VERSION_MIN,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(info: &str, words: &[&str]) {
        let advice = from_info(info, Role::Single);
        assert_eq!(advice.is_some(), !words.is_empty(), "{info}: {advice:?}");
        let advice = advice.unwrap_or_default();
        words.iter().for_each(|word| assert!(advice.contains(word), "{word} in {advice}"));
    }

    #[test]
    fn what_loses_counters_is_told() {
        let info = |bytes: u64, policy: &str| {
            format!("# Memory\r\nmaxmemory:{bytes}\r\nmaxmemory_human:x\r\nmaxmemory_policy:{policy}\r\n")
        };
        check(&info(1 << 20, "volatile-lru"), &["volatile-lru", "noeviction"]);
        check(&info(1 << 20, "allkeys-random"), &["allkeys-random"]);
        check(&info(1 << 20, "noeviction"), &[]);
        check(&info(0, "allkeys-lru"), &[]);
        check("", &[]);
    }

    #[test]
    fn a_cluster_taken_for_one_server_is_told() {
        check("redis_mode:cluster\r\n", &["list"]);
        check("redis_mode:standalone\r\n", &[]);
        assert_eq!(from_info("redis_mode:cluster\r\n", Role::OfCluster), None);
    }

    #[test]
    fn old_servers_are_told() {
        check("redis_version:5.0.14\r\n", &["5.0.14", "6.2"]);
        check("redis_version:6.0.9\r\n", &["6.0.9"]);
        for version in ["6.2.0", "7.0.15", "10.0.0", "255.255.255", "unstable", ""] {
            check(&format!("redis_version:{version}\r\n"), &[]);
        }
        check(
            "redis_version:5.0.14\r\nmaxmemory:9\r\nmaxmemory_policy:volatile-ttl\r\n",
            &["5.0", "volatile-ttl"],
        );
    }
}
