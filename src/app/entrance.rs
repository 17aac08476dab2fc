//! From what the file says of a listener to what the edge does about it.

use crate::config::ListenerSpec;
use crate::proxy::Entrance;

pub(super) fn of(spec: &ListenerSpec) -> Entrance {
    let ListenerSpec { address: _, h2c } = *spec;
    Entrance { h2c }
}
