//! Metrics of one name that differ in their labels.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Opts, Registry};

/// A family of metrics, known by the whole of their label values.
///
/// The library's own `MetricVec` knows its children by a hash of the values joined without a
/// separator, so that `("ab", "c")` and `("a", "bc")` would count as one.
#[derive(Clone)]
pub(super) struct Family<C, const N: usize>(Arc<Inner<C, N>>);

struct Inner<C, const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
    desc: Desc,
    make: fn(Opts) -> Result<C, prometheus::Error>,
    /// Stands in for a child that cannot be made; never shown. Names and labels were proven good
    /// by making this one, so none should.
    spare: C,
    children: Mutex<BTreeMap<[Box<str>; N], C>>,
}

impl<C: Collector + Clone + 'static, const N: usize> Family<C, N> {
    pub(super) fn new(
        registry: &Registry,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        make: fn(Opts) -> Result<C, prometheus::Error>,
    ) -> Result<Family<C, N>, prometheus::Error> {
        let names = labels.iter().map(|&label| label.to_owned()).collect();
        let family = Family(Arc::new(Inner {
            name,
            help,
            labels,
            desc: Desc::new(name.to_owned(), help.to_owned(), names, HashMap::new())?,
            make,
            spare: make(opts(name, help, labels, &[""; N]))?,
            children: Mutex::new(BTreeMap::new()),
        }));
        registry.register(Box::new(family.clone()))?;
        Ok(family)
    }

    /// The metric with these label values; made if it is not there yet.
    pub(super) fn child(&self, values: [&str; N]) -> C {
        let inner = &self.0;
        let mut children = inner.children.lock();
        let key = values.map(Box::from);
        if let Some(child) = children.get(&key) {
            return child.clone();
        }
        match (inner.make)(opts(inner.name, inner.help, inner.labels, &values)) {
            Ok(child) => {
                children.insert(key, child.clone());
                child
            }
            Err(_) => inner.spare.clone(),
        }
    }

    /// All that there are, with their label values.
    pub(super) fn all(&self) -> Vec<([Box<str>; N], C)> {
        self.0.children.lock().iter().map(|(values, child)| (values.clone(), child.clone())).collect()
    }

    /// Drops the metrics whose first label has another value than these.
    pub(super) fn retain(&self, first_label: &[&str]) {
        self.retain_where(|values| values.first().is_some_and(|first| first_label.contains(&&**first)));
    }

    /// Keeps the metrics of these label values alone.
    pub(super) fn retain_where(&self, is_kept: impl Fn(&[Box<str>; N]) -> bool) {
        self.0.children.lock().retain(|values, _| is_kept(values));
    }
}

impl<C: Collector + 'static, const N: usize> Collector for Family<C, N> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut whole: Option<MetricFamily> = None;
        for mut part in self.0.children.lock().values().flat_map(Collector::collect) {
            match &mut whole {
                Some(family) => family.mut_metric().append(&mut mem::take(part.mut_metric())),
                None => whole = Some(part),
            }
        }
        whole.into_iter().collect()
    }
}

fn opts<const N: usize>(name: &str, help: &str, labels: [&str; N], values: &[&str; N]) -> Opts {
    let pairs = labels.iter().zip(values);
    pairs.fold(Opts::new(name, help), |opts, (&label, &value)| opts.const_label(label, value))
}
