//! Slices on tracks. On one track they have to lie in each other like boxes; what
//! only overlaps goes to another track of the same name, which viewers show as one.

use std::{cmp::Reverse, collections::BTreeMap};

/// Something that is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice<T> {
    /// When it begins.
    pub start_ns: u64,
    /// When it ends; an instant if that is `None`.
    pub end_ns: Option<u64>,
    /// What else is known of it.
    pub what: T,
}

/// What happens on a lane of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a, T> {
    /// A slice begins.
    Begin(&'a T),
    /// The one that began last and did not end yet ends.
    End,
    /// Something without length.
    Instant(&'a T),
}

/// The slices of all tracks.
#[derive(Debug)]
pub struct Tracks<K, T> {
    slices: BTreeMap<K, Vec<Slice<T>>>,
}

impl<K, T> Default for Tracks<K, T> {
    fn default() -> Self {
        Self {
            slices: BTreeMap::new(),
        }
    }
}

impl<K: Ord, T> Tracks<K, T> {
    /// Puts it on a track. Of those that begin and end together, the first is the
    /// outermost.
    pub fn add(&mut self, track: K, slice: Slice<T>) {
        self.slices.entry(track).or_default().push(slice);
    }

    /// The tracks.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &[Slice<T>])> {
        self.slices
            .iter()
            .map(|(key, slices)| (key, slices.as_slice()))
    }
}

/// What happens on one track: when, on which of its lanes, what. Each lane is in
/// the order of time.
pub fn steps<T>(slices: &[Slice<T>]) -> Vec<(u64, usize, Step<'_, T>)> {
    let mut order: Vec<_> = slices.iter().collect();
    order.sort_by_key(|slice| {
        (
            slice.start_ns,
            Reverse(slice.end_ns.unwrap_or(slice.start_ns)),
        )
    });
    // Ends of the slices that are open, innermost last.
    let mut lanes: Vec<Vec<u64>> = vec![Vec::new()];
    let mut steps = Vec::with_capacity(2 * slices.len());
    for slice in order {
        let Some(end_ns) = slice.end_ns.map(|end| end.max(slice.start_ns)) else {
            close(&mut lanes[0], 0, &mut steps, |end| end < slice.start_ns);
            steps.push((slice.start_ns, 0, Step::Instant(&slice.what)));
            continue;
        };
        let mut lane = 0;
        loop {
            if lane == lanes.len() {
                lanes.push(Vec::new());
            }
            let open = &mut lanes[lane];
            close(open, lane, &mut steps, |end| end <= slice.start_ns);
            if open.last().is_none_or(|end| *end >= end_ns) {
                open.push(end_ns);
                break;
            }
            lane += 1;
        }
        steps.push((slice.start_ns, lane, Step::Begin(&slice.what)));
    }
    for (lane, open) in lanes.iter_mut().enumerate() {
        close(open, lane, &mut steps, |_| true);
    }
    steps
}

fn close<T>(
    open: &mut Vec<u64>,
    lane: usize,
    steps: &mut Vec<(u64, usize, Step<'_, T>)>,
    over: impl Fn(u64) -> bool,
) {
    while let Some(end) = open.pop_if(|end| over(*end)) {
        steps.push((end, lane, Step::End));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slice(start_ns: u64, end_ns: u64, what: char) -> Slice<char> {
        Slice {
            start_ns,
            end_ns: Some(end_ns),
            what,
        }
    }

    /// As text: lane, time, and a letter where a slice begins.
    fn told(slices: &[Slice<char>]) -> String {
        let steps = steps(slices)
            .into_iter()
            .map(|(time, lane, step)| match step {
                Step::Begin(what) => format!("{lane}:{time}{what}"),
                Step::End => format!("{lane}:{time}."),
                Step::Instant(what) => format!("{lane}:{time}{what}!"),
            });
        steps.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_lies_inside_stays_and_what_overlaps_moves() {
        assert_eq!(
            told(&[slice(0, 10, 'a'), slice(2, 5, 'b'), slice(5, 12, 'c')]),
            "0:0a 0:2b 0:5. 1:5c 0:10. 1:12."
        );
        // One after the other, and of two that are alike the first is outside.
        assert_eq!(
            told(&[slice(5, 9, 'b'), slice(0, 5, 'a'), slice(5, 9, 'c')]),
            "0:0a 0:5. 0:5b 0:5c 0:9. 0:9."
        );
    }

    #[test]
    fn an_instant_at_the_end_is_inside() {
        let instant = Slice {
            start_ns: 5,
            end_ns: None,
            what: 'i',
        };
        assert_eq!(told(&[slice(0, 5, 'a'), instant]), "0:0a 0:5i! 0:5.");
    }

    proptest! {
        #[test]
        fn each_lane_is_well_formed(
            spans in prop::collection::vec((0..50u64, 0..20u64), 0..40),
        ) {
            let slices: Vec<_> = spans
                .iter()
                .map(|(start, length)| slice(*start, start + length, 'x'))
                .collect();
            let mut open: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
            let mut last: BTreeMap<usize, u64> = BTreeMap::new();
            let mut seen = Vec::new();
            for (time, lane, step) in steps(&slices) {
                prop_assert!(time >= *last.get(&lane).unwrap_or(&0));
                last.insert(lane, time);
                let lane = open.entry(lane).or_default();
                match step {
                    Step::Begin(_) => lane.push(time),
                    Step::End => seen.push((lane.pop().expect("one is open"), time)),
                    Step::Instant(_) => prop_assert!(false),
                }
            }
            prop_assert!(open.values().all(Vec::is_empty));
            // What ends is what began last, so each slice comes out as it went in.
            seen.sort_unstable();
            let mut expected: Vec<_> = spans.iter().map(|(start, length)| (*start, start + length)).collect();
            expected.sort_unstable();
            prop_assert_eq!(seen, expected);
        }
    }
}
