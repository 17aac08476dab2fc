//! A table that is bounded by forgetting what nobody asked for of late.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::mem;

/// Holds at least the `half` keys that were used last, and never more than twice as many.
///
/// There are two generations. What is used moves to the younger one; when that is full it becomes the older one, and
/// what nobody used in the meantime is forgotten. So a flood of new keys costs no search for one to give way, and
/// cannot push out a key that is in use.
#[derive(Debug)]
pub struct Recent<K, V> {
    half: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    pub fn new(half: usize) -> Recent<K, V> {
        Recent { half: half.max(1), young: HashMap::new(), old: HashMap::new() }
    }

    /// Looks without using it.
    pub fn peek<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.add(key, value);
        }
        self.young.get_mut(key)
    }

    /// The value of this key, made if there is none.
    pub fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let old = self.old.remove(&key);
        if !self.young.contains_key(&key) {
            self.turn_if_full();
        }
        self.young.entry(key).or_insert_with(|| old.unwrap_or_else(make))
    }

    pub fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        self.add(key, value);
    }

    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.young.remove(key);
        self.old.remove(key);
    }

    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn add(&mut self, key: K, value: V) {
        if !self.young.contains_key(&key) {
            self.turn_if_full();
        }
        self.young.insert(key, value);
    }

    fn turn_if_full(&mut self) {
        if self.young.len() >= self.half {
            self.old = mem::take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_used_last_stay_whatever_comes() {
        let mut recent = Recent::new(100);
        recent.insert(u32::MAX, "in use");
        for key in 0..100_000 {
            recent.insert(key, "new");
            if key % 50 == 0 {
                assert!(recent.get_mut(&u32::MAX).is_some(), "{key}");
            }
            assert!(recent.len() <= 200);
            // The last hundred are there, whatever the generation.
            let oldest = key.saturating_sub(90);
            assert!(recent.peek(&oldest).is_some(), "{oldest} of {key}");
        }
        assert!(recent.peek(&0).is_none());
    }

    #[test]
    fn a_key_has_one_value() {
        let mut recent = Recent::new(2);
        *recent.entry("a", || 1) += 1;
        recent.insert("b", 0);
        recent.insert("c", 0);
        assert_eq!(*recent.entry("a", || 10), 2, "it was in the older generation");
        recent.insert("a", 7);
        assert_eq!(recent.get_mut("a").copied(), Some(7));
        recent.remove("a");
        assert!(recent.peek("a").is_none());
    }
}
