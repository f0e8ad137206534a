//! Profiles that `go tool pprof` and its friends open: gzipped Protocol Buffers.
//!
//! The messages are those of `proto/profile.proto` in github.com/google/pprof, as
//! far as they are used; its comments say what each field is. All strings are
//! indices into the table, the first of which is empty.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use flate2::{Compression, write::GzEncoder};
use prost::Message;

use super::profile::{Profile, Sample};
use crate::go::Frame;

/// `perftools.profiles.Profile`.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Stack>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
}

/// `ValueType`.
#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

/// `Sample`.
#[derive(Clone, PartialEq, Message)]
struct Stack {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

/// `Label`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    str: i64,
}

/// `Mapping`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    /// So that the tool does not look for them in a file.
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "8")]
    has_filenames: bool,
    #[prost(bool, tag = "9")]
    has_line_numbers: bool,
}

/// `Location`.
#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

/// `Line`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

/// `Function`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// When and of what a profile is.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'a> {
    /// Wall clock at the start of the run, in nanoseconds since 1970 (UTC).
    pub unix_ns: u64,
    /// How long it was, in nanoseconds.
    pub elapsed_ns: u64,
    /// The program's file.
    pub program: &'a str,
}

/// Writes a profile.
pub fn write(out: impl Write, profile: &Profile, taken: Taken<'_>) -> io::Result<()> {
    let file = file(profile, taken);
    let mut zip = GzEncoder::new(out, Compression::default());
    zip.write_all(&file.encode_to_vec())?;
    zip.finish()?;
    Ok(())
}

fn file(profile: &Profile, taken: Taken<'_>) -> File {
    let mut tables = Tables::default();
    let mut types = vec![ValueType {
        kind: tables.string(profile.count),
        unit: tables.string("count"),
    }];
    types.extend(profile.cost.map(|cost| ValueType {
        kind: tables.string(cost.name),
        unit: tables.string(cost.unit),
    }));
    let stack = |tables: &mut Tables, sample: &Sample| Stack {
        location_id: sample
            .stack
            .iter()
            .map(|frame| tables.location(frame))
            .collect(),
        value: [sample.count, sample.cost][..types.len()]
            .iter()
            .map(|value| i64::try_from(*value).unwrap_or(i64::MAX))
            .collect(),
        label: sample
            .labels
            .iter()
            .map(|(key, value)| Label {
                key: tables.string(key),
                str: tables.string(value),
            })
            .collect(),
    };
    let samples = profile.samples.iter();
    let sample = samples.map(|sample| stack(&mut tables, sample)).collect();
    let last = types.last().map_or(0, |last| last.kind);
    File {
        sample_type: types,
        sample,
        mapping: vec![Mapping {
            id: 1,
            filename: tables.string(taken.program),
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
        }],
        time_nanos: taken.unix_ns as i64,
        duration_nanos: taken.elapsed_ns as i64,
        comment: vec![tables.string(profile.what)],
        default_sample_type: last,
        location: tables.locations,
        function: tables.functions,
        string_table: tables.strings,
    }
}

/// What samples refer to by number.
struct Tables {
    strings: Vec<String>,
    known: HashMap<String, i64>,
    locations: Vec<Location>,
    places: HashMap<(u64, u32), u64>,
    functions: Vec<Function>,
    names: HashMap<(i64, i64), u64>,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            strings: vec![String::new()],
            known: HashMap::from([(String::new(), 0)]),
            locations: Vec::new(),
            places: HashMap::new(),
            functions: Vec::new(),
            names: HashMap::new(),
        }
    }
}

impl Tables {
    fn string(&mut self, text: &str) -> i64 {
        if let Some(index) = self.known.get(text) {
            return *index;
        }
        let index = self.strings.len() as i64;
        self.strings.push(text.to_owned());
        self.known.insert(text.to_owned(), index);
        index
    }

    fn location(&mut self, frame: &Frame) -> u64 {
        let function_id = self.function(frame);
        let locations = &mut self.locations;
        let place = self.places.entry((function_id, frame.line));
        *place.or_insert_with(|| {
            let id = locations.len() as u64 + 1;
            locations.push(Location {
                id,
                mapping_id: 1,
                line: vec![Line {
                    function_id,
                    line: frame.line.into(),
                }],
            });
            id
        })
    }

    fn function(&mut self, frame: &Frame) -> u64 {
        let (name, filename) = (self.string(&frame.function), self.string(&frame.file));
        let functions = &mut self.functions;
        *self.names.entry((name, filename)).or_insert_with(|| {
            let id = functions.len() as u64 + 1;
            functions.push(Function {
                id,
                name,
                system_name: name,
                filename,
            });
            id
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::{super::profile::tests::profiles, *};

    fn read(profile: &Profile) -> File {
        let taken = Taken {
            unix_ns: 5,
            elapsed_ns: 6,
            program: "/bin/server",
        };
        let mut bytes = Vec::new();
        write(&mut bytes, profile, taken).unwrap();
        let mut unpacked = Vec::new();
        GzDecoder::new(bytes.as_slice())
            .read_to_end(&mut unpacked)
            .unwrap();
        File::decode(unpacked.as_slice()).unwrap()
    }

    /// What stands behind the numbers: functions and lines of each stack, values,
    /// labels.
    fn resolved(file: &File) -> Vec<String> {
        let text = |index: i64| file.string_table[index as usize].as_str();
        let sample = |sample: &Stack| {
            let frames = sample.location_id.iter().map(|id| {
                let location = file.location.iter().find(|it| it.id == *id).unwrap();
                let line = location.line[0];
                let function = file.function.iter().find(|it| it.id == line.function_id);
                let function = function.unwrap();
                format!(
                    "{} {}:{}",
                    text(function.name),
                    text(function.filename),
                    line.line
                )
            });
            let labels = sample.label.iter();
            let labels = labels.map(|it| format!("{}={}", text(it.key), text(it.str)));
            let all: Vec<_> = frames.chain(labels).collect();
            format!("{:?} {}", sample.value, all.join(" "))
        };
        file.sample.iter().map(sample).collect()
    }

    #[test]
    fn stacks_come_back_with_their_lines() {
        let [delay, wait, operations] = profiles().map(|profile| read(&profile));
        assert_eq!(
            resolved(&delay),
            ["[2, 1500] main.send /src/main.go:7 main.main /src/main.go:3 comm=order-api pid=4321"]
        );
        assert_eq!(
            resolved(&operations)[0],
            "[2] main.main /src/main.go:3 map=map at 0x1000 operation=access pid=7"
        );
        let text = |index: i64| wait.string_table[index as usize].as_str();
        let types: Vec<_> = wait
            .sample_type
            .iter()
            .map(|it| (text(it.kind), text(it.unit)))
            .collect();
        assert_eq!(types, [("waits", "count"), ("wait", "nanoseconds")]);
        assert_eq!(text(wait.default_sample_type), "wait");
        assert_eq!(text(0), "");
        assert_eq!((wait.time_nanos, wait.duration_nanos), (5, 6));
    }
}
