//! Which of many handlers work after a turn. Those that have nothing to do cost nothing.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Instant;

/// When each handler works, by its key.
#[derive(Debug)]
pub struct Schedule<K> {
    plans: HashMap<K, Plan>,
    /// The handlers that work now, in this order, and some whose plan has changed.
    queue: VecDeque<K>,
    /// The handlers that work later.
    later: BTreeSet<(Instant, K)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Now,
    At(Instant),
}

impl<K: Copy + Hash + Ord> Schedule<K> {
    pub fn new() -> Self {
        Self {
            plans: HashMap::new(),
            queue: VecDeque::new(),
            later: BTreeSet::new(),
        }
    }

    /// Plans a handler for now.
    pub fn plan_now(&mut self, key: K) {
        if self.replace(key, Some(Plan::Now)) != Some(Plan::Now) {
            self.queue.push_back(key);
        }
    }

    /// Plans a handler for this time instead. `None`: it has nothing to do.
    pub fn plan_at(&mut self, key: K, due: Option<Instant>) {
        self.replace(key, due.map(Plan::At));
        self.later.extend(due.map(|at| (at, key)));
    }

    fn replace(&mut self, key: K, plan: Option<Plan>) -> Option<Plan> {
        let before = match plan {
            Some(plan) => self.plans.insert(key, plan),
            None => self.plans.remove(&key),
        };
        if let Some(Plan::At(at)) = before {
            self.later.remove(&(at, key));
        }
        before
    }

    /// Schedules those that are due for now.
    pub fn plan_due(&mut self, now: Instant) {
        while let Some((_, key)) = self.later.first().filter(|(at, _)| *at <= now) {
            self.plan_now(*key);
        }
    }

    /// The handler that works now. It is then no longer scheduled.
    pub fn next(&mut self) -> Option<K> {
        while let Some(key) = self.queue.pop_front() {
            if self.plans.get(&key) == Some(&Plan::Now) {
                self.plans.remove(&key);
                return Some(key);
            }
        }
        None
    }

    /// When the first one has something to do. `now` stands for those that could work already.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if !self.queue.is_empty() {
            return Some(now);
        }
        self.later.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_works_once_in_the_order_of_the_plans() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut schedule = Schedule::new();
        for key in [3, 1, 3, 2, 1] {
            schedule.plan_now(key);
        }
        schedule.plan_at(4, Some(later));
        schedule.plan_at(2, None);
        assert_eq!(schedule.due(now), Some(now));
        assert_eq!(
            [schedule.next(), schedule.next(), schedule.next()],
            [Some(3), Some(1), None]
        );
        assert_eq!(schedule.due(now), Some(later));
        schedule.plan_due(now);
        assert_eq!(schedule.next(), None);
        schedule.plan_due(later);
        schedule.plan_now(4);
        assert_eq!([schedule.next(), schedule.next()], [Some(4), None]);
        assert_eq!(schedule.due(now), None);
    }

    #[test]
    fn a_plan_that_changes_leaves_nothing() {
        let now = Instant::now();
        let mut schedule = Schedule::new();
        for step in 0..1000 {
            schedule.plan_at(7, Some(now + Duration::from_secs(step)));
        }
        assert_eq!((schedule.later.len(), schedule.plans.len()), (1, 1));
        schedule.plan_now(7);
        schedule.plan_at(7, None);
        schedule.plan_now(7);
        assert_eq!([schedule.next(), schedule.next()], [Some(7), None]);
        assert!(schedule.later.is_empty() && schedule.plans.is_empty());
        assert!(schedule.queue.is_empty());
    }
}
