use super::*;

const PID: u32 = 4711;

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().fold(Environment::empty(), |all, (name, value)| all.with(name, *value))
}

#[test]
fn sockets_are_promised_to_one_process_in_numbers() {
    let pid = &*PID.to_string();
    for (variables, expected) in [
        (vec![], Ok(0)),
        (vec![("LISTEN_FDS", "2")], Ok(0)),
        (vec![("LISTEN_PID", pid)], Ok(0)),
        (vec![("LISTEN_PID", "4712"), ("LISTEN_FDS", "2")], Ok(0)),
        (vec![("LISTEN_PID", "4712"), ("LISTEN_FDS", "two")], Ok(0)),
        (vec![("LISTEN_PID", pid), ("LISTEN_FDS", "0")], Ok(0)),
        (vec![("LISTEN_PID", pid), ("LISTEN_FDS", "2")], Ok(2)),
        (vec![("LISTEN_PID", pid), ("LISTEN_FDS", "64")], Ok(64)),
        (vec![("LISTEN_PID", pid), ("LISTEN_FDS", "65")], Err("LISTEN_FDS is more than 64")),
        (vec![("LISTEN_PID", pid), ("LISTEN_FDS", "-1")], Err("LISTEN_FDS is not a number")),
        (vec![("LISTEN_PID", pid), ("LISTEN_FDS", "4294967296")], Err("LISTEN_FDS is not a number")),
        (vec![("LISTEN_PID", pid), ("LISTEN_FDS", "")], Err("LISTEN_FDS is not a number")),
        (vec![("LISTEN_PID", "self"), ("LISTEN_FDS", "2")], Err("LISTEN_PID is not a number")),
    ] {
        match (promised(&environment(&variables), PID), expected) {
            (Ok(count), Ok(expected)) => assert_eq!(count, expected, "{variables:?}"),
            (Err(fault), Err(part)) => assert!(fault.to_string().starts_with(part), "{variables:?}: {fault}"),
            (got, _) => panic!("{variables:?}: {got:?}"),
        }
    }
}

#[test]
fn names_are_in_the_order_of_the_sockets() {
    let named = |names| names_of(&[("LISTEN_FDNAMES", names)]);
    assert_eq!(named("public:tollgate.socket"), ["public", "tollgate.socket"]);
    assert_eq!(named("public::admin"), ["public", "", "admin"]);
    assert!(names_of(&[]).is_empty());
}

fn names_of(variables: &[(&str, &str)]) -> Vec<String> {
    names(&environment(variables)).collect()
}

#[test]
fn a_socket_is_found_by_its_address_and_once() {
    let open = |name: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Open { name: name.to_owned(), at: listener.local_addr().unwrap(), listener }
    };
    let (one, two) = (open("one"), open("two"));
    let at = two.at;
    let mut activation = Activation { sockets: vec![one, two], faults: Vec::new() };
    let any_address = SocketAddr::new("0.0.0.0".parse().unwrap(), at.port());
    assert!(activation.take(any_address).is_none(), "who is let in is what the file says");
    assert_eq!(activation.rival(any_address), Some((at, "two")));
    assert_eq!(activation.take(at).unwrap().local_addr().unwrap(), at);
    assert!(activation.take(at).is_none());
    assert!(activation.rival(any_address).is_none());
    assert!(activation.take("127.0.0.1:0".parse().unwrap()).is_none(), "any port is a port of its own");
}
