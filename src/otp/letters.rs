//! Which message of a provider is about which code, where the provider reports to one address for a whole account.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use super::keys::Link;

/// The last part of the path that such providers report to.
pub(super) const FIXED_TOKEN: &str = "-";
/// So many messages are remembered, in this process; what is reported of older ones is passed over.
const MESSAGES_MAX: usize = 20_000;

/// By provider and the provider's name for the message, bounded: the oldest give way.
#[derive(Default)]
pub struct Letters(Mutex<Held>);

#[derive(Default)]
struct Held {
    by_name: HashMap<Box<str>, Link>,
    in_order: VecDeque<Box<str>>,
}

impl Letters {
    pub(super) fn remember(&self, provider: &str, message_id: &str, link: Link) {
        let name = name(provider, message_id);
        let mut held = self.0.lock();
        if held.by_name.insert(name.clone(), link).is_none() {
            held.in_order.push_back(name);
        }
        while held.in_order.len() > MESSAGES_MAX {
            if let Some(oldest) = held.in_order.pop_front() {
                held.by_name.remove(&oldest);
            }
        }
    }

    /// None if it is about something else that the account sends.
    pub(super) fn link(&self, provider: &str, message_id: &str) -> Option<Link> {
        self.0.lock().by_name.get(&*name(provider, message_id)).copied()
    }
}

/// Names of providers hold no line breaks.
fn name(provider: &str, message_id: &str) -> Box<str> {
    format!("{provider}\n{message_id}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::key::KeyHash;
    use crate::otp::card::{Nonce, Slot};

    #[test]
    fn messages_are_remembered_by_provider_and_the_oldest_give_way() {
        let letters = Letters::default();
        let link = |number: u128| Link {
            slot: Slot::new(KeyHash::from_u128(number)),
            nonce: Nonce::new([0; 8]),
            attempt: 1,
        };
        for number in 0..=MESSAGES_MAX {
            letters.remember("smtp", &number.to_string(), link(number as u128));
            letters.remember("smtp", &number.to_string(), link(number as u128));
        }
        assert_eq!(letters.link("smtp", "0"), None);
        assert_eq!(letters.link("smtp", "1"), Some(link(1)));
        assert_eq!(letters.link("other", "1"), None);
    }
}
