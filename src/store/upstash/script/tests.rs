use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::tests::redis_server::RedisServer;
use super::*;

/// Runs a script with the prelude before it, as Upstash does: all but the line that only Upstash knows.
fn evaluate<T: redis::FromRedisValue>(connection: &mut redis::Connection, source: &str, args: &[&[u8]]) -> T {
    let source = format!("{PRELUDE}{source}");
    let (first_line, source) = source.split_once('\n').unwrap();
    assert_eq!(first_line, "#!lua flags=allow-key-locking");
    let mut command = redis::cmd("EVAL");
    command.arg(source).arg(0);
    args.iter().for_each(|arg| {
        command.arg(hex(arg));
    });
    command.query(connection).unwrap()
}

#[test]
fn arguments_arrive_as_they_were() {
    let server = RedisServer::start();
    let mut connection = server.connect();
    let all: Vec<u8> = (0..=255).collect();
    let back: Vec<Vec<u8>> = evaluate(&mut connection, "return ARGV", &[&all, b"", b"text"]);
    assert_eq!(back, [all.clone(), Vec::new(), b"text".to_vec()]);
    let count: i64 = evaluate(&mut connection, "return #ARGV", &[]);
    assert_eq!(count, 0);
}

/// Packs and unpacks every number in every width that it fits into, with the prelude's `struct` and the
/// server's own, and returns the formats in which they differ.
const COMPARE: &str = "
    local real, differing = _G.struct, {}
    for i = 1, #ARGV do
      local number = tonumber(ARGV[i])
      local formats = { '<I1', '<I2', '<I3', '<I4', '<I5', '<I6', '<I7', '<I8', '<B', '<I', '<BI7', '<I4I2B' }
      for _, format in ipairs(formats) do
        local one, other = number, number % 65536
        local mine, theirs = struct.pack(format, one, other, other), real.pack(format, one, other, other)
        local padded = 'x' .. theirs .. 'y'
        local a, b = { struct.unpack(format, padded, 2) }, { real.unpack(format, padded, 2) }
        local same = mine == theirs and #a == #b and #a >= 2
        for k = 1, #b do same = same and a[k] == b[k] end
        if not same then differing[#differing + 1] = format .. ' of ' .. ARGV[i] end
      end
    end
    return differing
";

#[test]
fn integers_are_packed_like_the_library_packs_them() {
    let server = RedisServer::start();
    let connection = Mutex::new(server.connect());
    let width = 0_u32..=53;
    let number = (any::<u64>(), width).prop_map(|(bits, width)| (bits & ((1 << width) - 1)).to_string());
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let edges =
        ["0", "1", "127", "128", "255", "256", "65535", "4294967295", "4294967296", "9007199254740991"];
    let compare = |numbers: &[&[u8]]| -> Vec<String> { evaluate(&mut connection.lock(), COMPARE, numbers) };
    assert_eq!(compare(&edges.map(str::as_bytes)), Vec::<String>::new());
    runner
        .run(&prop::collection::vec(number, 32), |numbers| {
            let numbers: Vec<&[u8]> = numbers.iter().map(String::as_bytes).collect();
            prop_assert_eq!(compare(&numbers), Vec::<String>::new());
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_cannot_be_unpacked_is_an_error() {
    let server = RedisServer::start();
    let mut connection = server.connect();
    let mut says = |source: &str| -> String {
        let source = format!("local _, said = pcall({source}) return tostring(said)");
        evaluate(&mut connection, &source, &[])
    };
    assert!(says("struct.unpack, '<I4', 'abc'").contains("data string too short"));
    assert!(says("struct.unpack, '<I4', 'abcd', 2").contains("data string too short"));
    assert!(says("struct.unpack, '>I4', 'abcd'").contains("invalid format"));
    assert_eq!(says("struct.unpack, '<I4', '\\1\\0\\0\\0'"), "1");
}

#[test]
fn a_script_is_ported_once_and_known_by_its_own_name() {
    let scripts = Scripts::default();
    let script = |source: &str, sha1: &str| Script { source: source.to_owned(), sha1: sha1.to_owned() };
    let one = scripts.port(&script("return 1", "a"));
    assert!(Arc::ptr_eq(&one, &scripts.port(&script("return 1", "a"))));
    assert_ne!(one.named, scripts.port(&script("return 2", "b")).named);
    let server = RedisServer::start();
    let source = format!("{PRELUDE}return 1");
    let sha1: String = redis::cmd("EVAL")
        .arg("return redis.sha1hex(ARGV[1])")
        .arg(0)
        .arg(source)
        .query(&mut server.connect())
        .unwrap();
    assert_eq!(one.named, format!(r#"["EVALSHA","{sha1}""#));
}

#[test]
fn hexadecimal_has_two_digits_a_byte() {
    assert_eq!(hex(&[0, 1, 9, 10, 15, 16, 255]), "0001090a0f10ff");
    assert_eq!(hex(&[]), "");
}
