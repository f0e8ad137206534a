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

#[cfg(test)]
mod tests {
    use super::{super::profile::tests::profiles, *};

    fn folded(profile: &Profile) -> String {
        let mut out = Vec::new();
        write(&mut out, profile).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn outermost_first_and_what_it_is_about_before() {
        let [delay, wait, operations] = profiles();
        assert_eq!(folded(&delay), "main.main;main.send 1500\n");
        assert_eq!(
            folded(&wait),
            "Mutex at 0x2000;[stack not seen] 60\n\
             Mutex at 0x2000;[stack not seen] 30\n\
             Mutex at 0x2000;[not held any more] 10\n"
        );
        assert_eq!(
            folded(&operations),
            "map at 0x1000;main.main 2\nmap at 0x1000;main.main 1\n"
        );
    }

    #[test]
    fn separators_in_names_are_replaced() {
        let [mut delay, ..] = profiles();
        delay.samples[0].stack[0].function = "a;b\nc".to_owned();
        assert_eq!(folded(&delay), "main.main;a:b c 1500\n");
    }

    #[test]
    fn a_flame_graph_names_its_functions() {
        for profile in profiles() {
            let mut svg = Vec::new();
            flamegraph(&mut svg, &profile).unwrap();
            let svg = String::from_utf8(svg).unwrap();
            assert!(svg.contains("<svg") && svg.contains(profile.what), "{svg}");
            let function = &profile.samples[0].stack[0].function;
            assert!(svg.contains(function.as_str()), "{function}");
        }
    }
}
