//! Hands what is known of traced programs to what concludes from it, and to the
//! recording, so that a replay comes to the same.

use injector_ebpf::go::EventRecord;

use super::{known::Known, tracer::News};
use crate::{
    explain::maps::{Fact, Kinds, Trace},
    recording::{
        schema::{Advance, Content, Learnt, Window},
        write::{Naming, Recorder},
    },
};

/// The way to the traces of a run, by their index.
pub struct Feed<'a> {
    recorder: Option<&'a mut Recorder>,
}

impl<'a> Feed<'a> {
    /// With this recorder, if the run is recorded.
    pub fn new(recorder: Option<&'a mut Recorder>) -> Self {
        Self { recorder }
    }

    /// What has happened.
    pub fn news(&mut self, index: usize, trace: &mut Trace, known: &Known, news: &News<'_>) {
        match news {
            News::Event(event) => self.event(index, trace, known, event),
            News::Seen(slice) => {
                let kinds: Kinds = slice.kinds.iter().copied().collect();
                trace.window(slice.start_ns, slice.end_ns, kinds);
                self.record(|| {
                    Content::Window(Window {
                        program: index as u32,
                        start_ns: slice.start_ns,
                        end_ns: slice.end_ns,
                        kinds: kinds.bits(),
                    })
                });
                if slice.changes {
                    self.gap(index, trace);
                }
            }
            News::Gap => self.gap(index, trace),
        }
    }

    fn event(&mut self, index: usize, trace: &mut Trace, known: &Known, event: &EventRecord) {
        match &mut self.recorder {
            None => trace.feed(event, known),
            Some(recorder) => {
                // Its stack has to be in the recording before it is.
                trace.feed(event, &Naming::new(recorder, index as u32, known));
                recorder.event(event);
            }
        }
    }

    fn gap(&mut self, index: usize, trace: &mut Trace) {
        trace.gap();
        self.record(|| Content::Gap(index as u32));
    }

    /// What was found out.
    pub fn learn(&mut self, index: usize, trace: &mut Trace, known: &Known, facts: Vec<Fact>) {
        for fact in facts {
            match &mut self.recorder {
                None => trace.learn(fact, known),
                Some(recorder) => {
                    let learnt = Learnt {
                        program: index as u32,
                        found: Some((&fact).into()),
                    };
                    trace.learn(fact, &Naming::new(recorder, index as u32, known));
                    recorder.add(Content::Learnt(learnt));
                }
            }
        }
    }

    /// Time has come this far.
    pub fn advance(&mut self, traces: &mut [Trace], now_ns: u64) {
        for (index, trace) in traces.iter_mut().enumerate() {
            trace.advance(now_ns);
            self.record(|| {
                Content::Advance(Advance {
                    program: index as u32,
                    now_ns,
                })
            });
        }
    }

    fn record(&mut self, content: impl FnOnce() -> Content) {
        if let Some(recorder) = &mut self.recorder {
            recorder.add(content());
        }
    }
}
