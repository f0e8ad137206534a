//! From what is known to findings.

use std::{cmp::Reverse, collections::HashMap, fmt::Write as _};

use injector_ebpf::go::Event;

use super::{
    About, Claim, Class, Confidence, Figure, Finding, Parts, Party, Seen, Trace,
    lock::{Lock, LockKind},
    map::{Disturbed, Map},
    sync_map::SyncMap,
    view::kind_of,
};

/// Fewer turns than this are how a map is handed over once or twice.
const TURNS: u64 = 4;
/// So many close calls, and a lock between them would have been contended once
/// and so have been seen.
const CLOSE_CALLS: u64 = 20;
/// So many, and without any order two would have met.
const TOO_CLOSE: u64 = 10_000;
/// Waits that are worth a finding, in nanoseconds together.
const WAITED_NS: u64 = 1_000_000;
/// A lock that is held so long on average is held for something slow, in
/// nanoseconds.
const LONG_NS: u64 = 500_000;
/// Findings that are kept in mind as told.
const TOLD: usize = 4096;

impl Trace {
    /// What is concluded so far, worst first.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<_> = self
            .shown_maps()
            .flat_map(|(address, map)| self.of_map(address, map))
            .collect();
        let sync_maps = self.shown_sync_maps();
        findings.extend(sync_maps.filter_map(|(address, map)| self.range_missed(address, map)));
        let open = self.open_waits();
        let locks = self.shown_locks();
        findings.extend(locks.filter_map(|(address, lock)| {
            self.contention(address, lock, open.get(&address).copied())
        }));
        findings.sort_by_key(|it| {
            let proven = matches!(it.claim, Claim::Overlap);
            let vague = it.confidence == Confidence::Low;
            (Reverse(proven), vague, Reverse(it.weight), it.about.address)
        });
        findings
    }

    /// Findings of at least medium confidence that were not told before, or
    /// with less confidence.
    pub fn news(&mut self) -> Vec<Finding> {
        let mut news = self.findings();
        news.retain(|it| it.confidence > Confidence::Low);
        news.retain(|it| {
            let key = (it.claim, it.about.address);
            if self.told.len() >= TOLD && !self.told.contains_key(&key) {
                return false;
            }
            let before = self.told.insert(key, it.confidence);
            before.is_none_or(|before| before < it.confidence)
        });
        news
    }

    /// The gravest that is concluded of each map.
    pub(super) fn risks(&self) -> HashMap<u64, (Claim, Confidence)> {
        let mut risks = HashMap::new();
        for (address, map) in self.maps.iter() {
            let all = self.of_map(address, map).into_iter();
            if let Some(worst) = all.max_by_key(|it| (it.confidence, Reverse(it.claim))) {
                risks.insert(address, (worst.claim, worst.confidence));
            }
        }
        risks
    }

    fn of_map(&self, address: u64, map: &Map) -> Vec<Finding> {
        if map.in_sync_map {
            return Vec::new();
        }
        let all = [
            self.overlap(address, map),
            self.foreign_write(address, map),
            self.own_change(address, map),
            self.unordered(address, map),
        ];
        all.into_iter().flatten().collect()
    }

    fn seen(&self, classes: &[Class]) -> Vec<Seen> {
        let seen = |class: &Class| {
            Some(Seen {
                what: class.name(),
                share: self.share(kind_of(*class))?,
            })
        };
        classes.iter().filter_map(seen).collect()
    }

    fn overlap(&self, address: u64, map: &Map) -> Option<Finding> {
        if map.overlaps == 0 {
            return None;
        }
        let parties = map.pairs.iter().flat_map(|pair| {
            [pair.comer, pair.other].map(|(goroutine, kind, stack)| Party {
                count: pair.count,
                ..self.party(does(kind), goroutine, stack)
            })
        });
        Some(Finding {
            claim: Claim::Overlap,
            about: self.about_map(address, map),
            confidence: Confidence::High,
            why: vec![
                "proven: both were inside the map's functions at once, and no lock allows that"
                    .to_owned(),
            ],
            measured: vec![figure("overlaps", map.overlaps)],
            inferred: vec![
                "the runtime ends the program when it notices; it does not always notice"
                    .to_owned(),
            ],
            seen: self.seen(&[Class::Read, Class::Write]),
            remedy: self.lock_remedy(map),
            parties: parties.collect(),
            weight: map.overlaps.saturating_mul(1 << 40),
        })
    }

    fn foreign_write(&self, address: u64, map: &Map) -> Option<Finding> {
        let Disturbed {
            iterations,
            changes,
            iterator,
            writer,
            during_gc,
        } = map.foreign;
        if changes.is_empty() {
            return None;
        }
        let mut measured = vec![
            figure("iterations", iterations),
            figure("assigns", changes.assigns),
            figure("deletes", changes.deletes),
            figure("growths", changes.growths),
            figure("iterations_during_gc", during_gc),
        ];
        self.size(map, &mut measured);
        let mut why = vec![
            "the writes lie between two steps of one iteration by another goroutine".to_owned(),
        ];
        let guarded = self.guard(map).is_some();
        if guarded {
            why.push(
                "a lock goes with this map: if the loop gives it up between its steps, this is \
                 no accident"
                    .to_owned(),
            );
        }
        why.push("an order by channels or uncontended locks is not seen".to_owned());
        Some(Finding {
            claim: Claim::WriteDuringIteration,
            about: self.about_map(address, map),
            confidence: if guarded {
                Confidence::Low
            } else {
                Confidence::Medium
            },
            why,
            measured,
            inferred: vec![
                "one of them can meet the other inside the map: then the runtime ends the program"
                    .to_owned(),
            ],
            seen: self.seen(&[Class::Iterate, Class::Write]),
            remedy: "copy what is iterated over while holding the lock, then iterate over the copy",
            parties: vec![
                self.party("iterates", iterator.0, iterator.1),
                self.party("writes", writer.0, writer.1),
            ],
            weight: changes.assigns.max(iterations).saturating_mul(1 << 30),
        })
    }

    fn own_change(&self, address: u64, map: &Map) -> Option<Finding> {
        let Disturbed {
            iterations,
            changes,
            iterator,
            writer,
            during_gc,
        } = map.own;
        // To delete while iterating is allowed, and nothing is in doubt then.
        if changes.assigns + changes.growths == 0 {
            return None;
        }
        let mut measured = vec![
            figure("iterations", iterations),
            figure("assigns", changes.assigns),
            figure("growths", changes.growths),
            figure("iterations_during_gc", during_gc),
        ];
        self.size(map, &mut measured);
        let (confidence, why) = if changes.growths > 0 {
            (
                Confidence::High,
                "the map grew between two steps of the iteration, so elements were added",
            )
        } else {
            (
                Confidence::Low,
                "elements were assigned between two steps of the iteration; whether any was new \
                 is not seen",
            )
        };
        Some(Finding {
            claim: Claim::ChangeDuringOwnIteration,
            about: self.about_map(address, map),
            confidence,
            why: vec![why.to_owned()],
            measured,
            inferred: vec![
                "whether the iteration comes to an added element is random; it does no harm to the \
                 map"
                .to_owned(),
            ],
            seen: self.seen(&[Class::Iterate, Class::Write]),
            remedy: "collect what is to be added, and add it after the loop",
            parties: vec![
                self.party("iterates", iterator.0, iterator.1),
                self.party("writes", writer.0, writer.1),
            ],
            weight: changes.growths.max(1).saturating_mul(1 << 20),
        })
    }

    fn unordered(&self, address: u64, map: &Map) -> Option<Finding> {
        let writers = map.touchers.iter().filter(|one| one.ops.writes() > 0);
        let writers: Vec<_> = writers.collect();
        if map.overlaps > 0 || map.turns < TURNS || writers.is_empty() || map.touchers.len() < 2 {
            return None;
        }
        if self.guard(map).is_some() {
            return None;
        }
        let ordered = writers.iter().any(|writer| {
            let others = map.touchers.iter();
            others
                .filter(|other| other.goroutine != writer.goroutine)
                .any(|other| self.locks.ordered(writer.goroutine, other.goroutine))
        });
        if ordered {
            return None;
        }
        let mut why = vec![
            "no wait for a lock and no other order was ever seen between them; an uncontended \
             lock and a channel are never seen"
                .to_owned(),
        ];
        let confidence = match map.close {
            CLOSE_CALLS..TOO_CLOSE => {
                why.push(format!(
                    "{} times they followed each other so closely, on two threads, that a lock \
                     between them should have been contended once",
                    map.close
                ));
                Confidence::Medium
            }
            TOO_CLOSE.. => {
                why.push(format!(
                    "{} times they followed each other closely and never met inside the map: \
                     something orders them",
                    map.close
                ));
                Confidence::Low
            }
            _ => Confidence::Low,
        };
        let mut parties: Vec<_> = map
            .touchers
            .iter()
            .map(|one| {
                let (role, stack, count) = match one.ops.writes() {
                    0 if one.ops.reads > 0 => ("reads", one.stacks.1, one.ops.reads),
                    0 => ("iterates", one.stacks.1, one.ops.iterations),
                    count => ("writes", one.stacks.0, count),
                };
                Party {
                    count,
                    ..self.party(role, one.goroutine, stack)
                }
            })
            .collect();
        parties.sort_by_key(|party| (party.role != "writes", Reverse(party.count)));
        parties.truncate(4);
        Some(Finding {
            claim: Claim::Unordered,
            about: self.about_map(address, map),
            confidence,
            why,
            measured: vec![
                figure("goroutines", map.goroutines()),
                figure("turns", map.turns),
                figure("close_calls", map.close),
                figure("writes", map.ops.writes()),
                figure("reads", map.ops.reads),
            ],
            inferred: vec!["if nothing orders them, they will meet one day".to_owned()],
            seen: self.seen(&[Class::Read, Class::Write]),
            remedy: self.lock_remedy(map),
            parties,
            weight: map.close.max(1).saturating_mul(1 << 20),
        })
    }

    fn range_missed(&self, address: u64, map: &SyncMap) -> Option<Finding> {
        if map.ranges_disturbed == 0 {
            return None;
        }
        let mut parties: Vec<_> = map
            .changers
            .iter()
            .map(|(_, one)| Party {
                count: one.changes,
                ..self.party("changes", one.goroutine, one.stack)
            })
            .collect();
        parties.sort_by_key(|party| Reverse(party.count));
        parties.truncate(4);
        parties.insert(0, self.party("ranges", 0, map.range_stack));
        let mut why = vec!["the changes lie between the start of Range and its end".to_owned()];
        if !self.range_ends_are_seen {
            why.push(
                "the end of Range is not seen here: it counts as over with the next thing that its \
                 goroutine is seen to do, so there can be more"
                    .to_owned(),
            );
        }
        Some(Finding {
            claim: Claim::RangeMissed,
            about: self.about_sync_map(address, map),
            confidence: Confidence::High,
            why,
            measured: vec![
                figure("ranges", map.ranges_over),
                figure("ranges_disturbed", map.ranges_disturbed),
                figure("stores", map.stores_missed),
                figure("deletes", map.deletes_missed),
                figure("longest_range_ns", map.longest_ns),
            ],
            inferred: vec![
                "Range is no snapshot: it may have missed each of these stores, and shown what was \
                 deleted"
                    .to_owned(),
            ],
            seen: [
                ("stores", Event::SyncMapStore),
                ("ranges", Event::SyncMapRange),
            ]
            .into_iter()
            .filter_map(|(what, kind)| {
                let share = self.share(kind)?;
                Some(Seen { what, share })
            })
            .collect(),
            remedy: "where a snapshot is needed, use a map with an RWMutex and copy it under the lock",
            parties,
            weight: map.ranges_disturbed.saturating_mul(1 << 10),
        })
    }

    fn contention(&self, address: u64, lock: &Lock, open: Option<(u32, u64)>) -> Option<Finding> {
        let waits = lock.waits();
        let (waiting, longest) = open.unwrap_or((0, 0));
        if waits.total_ns.saturating_add(longest) < WAITED_NS {
            return None;
        }
        let mut maps: Vec<_> = self
            .maps
            .iter()
            .filter_map(|(at, map)| {
                let (guard, confidence) = self.guard(map)?;
                (guard == address).then_some((at, map, confidence))
            })
            .collect();
        maps.sort_unstable_by_key(|(at, ..)| *at);
        let times = lock.times.as_deref();
        let quantile = |share| times.and_then(|it| it.quantile(share)).unwrap_or(0);
        let mut measured = vec![
            figure("waits", waits.count),
            figure("total_ns", waits.total_ns),
            figure("p50_ns", quantile(0.5)),
            figure("p99_ns", quantile(0.99)),
            figure("max_ns", waits.max_ns),
            figure("paused_ns", lock.paused_ns),
            figure("waits_during_gc", lock.during_gc),
        ];
        if self.locks.blame.is_some() {
            measured.extend([
                figure("injected_ns", lock.blame.injected),
                figure("sending_ns", lock.blame.sending),
                figure("pausing_ns", lock.blame.pausing),
                figure("no_cpu_ns", lock.blame.no_cpu),
                figure("unexplained_ns", lock.blame.unexplained),
                figure("chained_ns", lock.blame.chained),
            ]);
        }
        if waiting > 0 {
            measured.push(figure("still_waiting", u64::from(waiting)));
            measured.push(figure("still_waiting_max_ns", longest));
        }
        let holds = lock.holders.iter().map(|(_, holds)| *holds);
        let (held, whole) = holds.fold((0, 0), |(count, whole), one| {
            (count + one.blocked.count, whole + one.whole)
        });
        let mut why = vec!["each of these waits was seen to begin and to end".to_owned()];
        if held > whole {
            why.push(format!(
                "of {held} holds {} began before somebody waited, so they are longer than shown",
                held - whole
            ));
        }
        let mut inferred: Vec<_> = maps
            .iter()
            .take(3)
            .map(|(at, map, confidence)| {
                format!(
                    "guards {} ({} confidence: {})",
                    called(&self.about_map(*at, map)),
                    confidence.name(),
                    self.why_guard(map, address)
                )
            })
            .collect();
        if maps.len() > 3 {
            inferred.push(format!("guards {} more maps", maps.len() - 3));
        }
        if lock.paused_ns > 0 {
            inferred.push("in the paused part of the waits no goroutine could run: that is not the lock's doing".to_owned());
        }
        inferred.extend(blamed(&lock.blame));
        let mut parties = self.lock_parties(lock);
        parties.truncate(6);
        Some(Finding {
            claim: Claim::Contention,
            about: self.about_lock(address, lock),
            confidence: Confidence::High,
            why,
            measured,
            inferred,
            seen: Vec::new(),
            remedy: contention_remedy(lock, &maps.iter().map(|it| it.1).collect::<Vec<_>>()),
            parties,
            weight: waits
                .total_ns
                .saturating_sub(lock.paused_ns)
                .saturating_add(longest),
        })
    }

    fn size(&self, map: &Map, measured: &mut Vec<Figure>) {
        if let Some((elements, tables)) = map.size {
            measured.push(figure("elements", elements));
            let name = match self.kind {
                crate::go::MapKind::Classic => "buckets",
                crate::go::MapKind::Swiss => "tables",
            };
            measured.push(figure(name, tables));
        }
    }

    fn lock_remedy(&self, map: &Map) -> &'static str {
        if self.guard(map).is_some() {
            "hold the lock for each use of the map: at least one place does not"
        } else if map.ops.reads >= 4 * map.ops.writes() {
            "guard the map with an RWMutex, or make it a sync.Map"
        } else {
            "guard the map with a Mutex, or let one goroutine alone use it"
        }
    }
}

fn contention_remedy(lock: &Lock, maps: &[&Map]) -> &'static str {
    let blocked = lock.holders.iter().fold((0, 0), |(count, ns), (_, one)| {
        (
            count + one.blocked.count,
            one.blocked.total_ns.saturating_add(ns),
        )
    });
    let ops = maps.iter().fold(super::Ops::default(), |mut sum, map| {
        sum.merge(map.ops);
        sum
    });
    let mean = blocked.1 / blocked.0.max(1);
    let blame = &lock.blame;
    if blame.injected + blame.sending > blame.unexplained {
        return "do not send under the lock: take what is to be sent, unlock, then send";
    }
    if blame.no_cpu > blame.whole() / 2 {
        return "give the program more CPU (a quota, its neighbours), or do less under the lock";
    }
    if lock.sync_map.is_some() {
        "a sync.Map that is written much: shards of maps with a lock each wait less"
    } else if mean >= LONG_NS && ops.steps > ops.reads + ops.writes() {
        "copy what is iterated over, and work on the copy without the lock"
    } else if mean >= LONG_NS {
        "do nothing slow under the lock: no send, no channel, no sleep, no file"
    } else if lock.kind == LockKind::Mutex && ops.reads > 4 * ops.writes() {
        "an RWMutex lets readers in together; for keys that hardly change, a sync.Map"
    } else if maps.is_empty() {
        "hold it for less, or give each part of what it guards a lock of its own"
    } else {
        "shards: several maps by a hash of the key, each with a lock of its own"
    }
}

/// What the waits were for, in words, if that is known.
fn blamed(parts: &Parts) -> Option<String> {
    let sends = parts.injected + parts.sending;
    if sends == 0 {
        return None;
    }
    let percent = |part: u64| (part as f64 * 100. / parts.whole() as f64).round();
    let mut text = format!(
        "{}% of the waiting is time that the holder was in a send: {}% in injected delays, {}% in \
         sends themselves",
        percent(sends),
        percent(parts.injected),
        percent(parts.sending)
    );
    if parts.chained > 0 {
        let _ = write!(
            text,
            "; for {}% the holder waited itself for one that was",
            percent(parts.chained)
        );
    }
    Some(text)
}

fn figure(name: &'static str, value: u64) -> Figure {
    Figure { name, value }
}

fn does(kind: u8) -> &'static str {
    match Event::from_number(kind) {
        Some(Event::Access) => "reads",
        Some(Event::Delete) => "deletes",
        Some(Event::Clear) => "clears",
        Some(Event::IterateStart | Event::IterateNext) => "iterates",
        _ => "writes",
    }
}

/// The best name that there is.
fn called(about: &About) -> String {
    match (&about.name, &about.type_name, &about.first_use) {
        (Some(name), ..) => name.clone(),
        (None, Some(type_name), Some(at)) => {
            format!("the {type_name} first used in {}", at.function)
        }
        (None, None, Some(at)) => format!("the map first used in {}", at.function),
        (None, Some(type_name), None) => format!("a {type_name}"),
        (None, None, None) => format!("the map at {:#x}", about.address),
    }
}
