//! Folded stacks, one a line, and flame graphs of them.

use std::io::{self, Write};

use inferno::flamegraph::{self, Options};

use super::profile::{Profile, Sample};

/// Writes a line for each stack: functions from the outermost to the innermost,
/// separated by semicolons, and what it cost. What a stack is about, such as the
/// lock, comes before the first function.
pub fn write(out: &mut dyn Write, profile: &Profile) -> io::Result<()> {
    for line in lines(profile) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Draws a flame graph: an SVG in which a click goes into a stack.
pub fn flamegraph(out: &mut dyn Write, profile: &Profile) -> io::Result<()> {
    let lines: Vec<_> = lines(profile).collect();
    let mut options = Options::default();
    profile.name.clone_into(&mut options.title);
    options.subtitle = Some(profile.what.to_owned());
    match profile.cost {
        // In milliseconds, which people can read.
        Some(_) => {
            "ms".clone_into(&mut options.count_name);
            options.factor = 1e-6;
        }
        None => profile.count.clone_into(&mut options.count_name),
    }
    options.deterministic = true;
    let drawn = flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), out);
    drawn.map_err(io::Error::other)
}

fn lines(profile: &Profile) -> impl Iterator<Item = String> {
    let weighed = profile.samples.iter();
    let weighed = weighed.map(|sample| (sample, profile.weight(sample)));
    weighed
        .filter(|(_, weight)| *weight > 0)
        .map(|(sample, weight)| format!("{} {weight}", stack(profile, sample)))
}

fn stack(profile: &Profile, sample: &Sample) -> String {
    let about = profile.about.and_then(|about| sample.label(about));
    let functions = sample.stack.iter().rev();
    let functions = functions.map(|frame| frame.function.as_str());
    let parts: Vec<_> = about
        .into_iter()
        .chain(functions)
        // The separators of the format.
        .map(|part| part.replace(';', ":").replace('\n', " "))
        .collect();
    parts.join(";")
}
