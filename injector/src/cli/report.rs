//! `injector report`: what a recorded run was, once more.

use std::{
    fs::File,
    io::{BufWriter, Write as _, stdout},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use injector_ebpf::SendRecord;
use memmap2::Mmap;

use super::args::Report;
use crate::{
    daemon::Format,
    explain::Summary,
    output::{html, json::Json, recorded, summary},
    recording::{read::Reader, schema::{Content, Run}},
};

/// Reads a recording and reports; needs neither root nor the same machine.
pub fn run(flags: &Report) -> Result<u8> {
    let path = flags.file.display();
    let map = open(&flags.file).with_context(|| format!("cannot read {path}"))?;
    let mut reader = Reader::new(&map).with_context(|| format!("cannot read {path}"))?;
    let mut out = BufWriter::with_capacity(1 << 16, stdout().lock());
    let mut json = Json::default();
    let (mut run, mut sends, mut last_ns): (Option<Run>, _, _) = (None, Summary::default(), 0);
    let mut heat = html::Heat::default();
    for content in reader.by_ref() {
        match content {
            Content::Run(more) => run = Some(more),
            Content::Send(send) => {
                let record = SendRecord::from(&send);
                last_ns = last_ns.max(record.start_ns);
                sends.record(&record);
                heat.send(&record, run.as_ref().map_or(0, |run| run.start_ns));
                if flags.output == Format::Json {
                    json.send(&mut out, &record)?;
                }
            }
            Content::Stack(_) | Content::Note(_) => {}
        }
    }
    let Some(run) = run else {
        bail!("{path} is damaged: nothing in it says what was run");
    };
    let (info, totals) = recorded::read(&run, last_ns);
    match flags.output {
        Format::Table => summary::write(&mut out, &info, &sends, &totals, false)?,
        Format::Json => json.summary(&mut out, &info, &sends, &totals)?,
    }
    out.flush()?;
    if let Some(path) = &flags.html {
        let report = html::Report {
            info: &info,
            sends: &sends,
            totals: &totals,
            heat: &heat,
            made_on: format!("Linux {}", run.kernel),
            programs: &[],
            told: Vec::new(),
            notes: &[],
            damage: reader.damage,
        };
        let file = File::create(path)?;
        let mut file = BufWriter::new(file);
        html::write(&mut file, &report)?;
        file.flush()?;
    }
    let damage = reader.damage;
    if damage.places > 0 {
        eprintln!(
            "injector: {path}: {} bytes in {} places are damaged or cut off, and are not in this \
             report",
            damage.bytes, damage.places
        );
    }
    if damage.unknown_items > 0 {
        eprintln!(
            "injector: {path}: {} items were written by a newer injector and are not in this report",
            damage.unknown_items
        );
    }
    Ok(0)
}

fn open(path: &Path) -> Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: only read; a file that is changed meanwhile gives wrong bytes, which
    // the reader takes for damage. One that is cut short while it is read ends
    // the process, as with any program that maps files.
    Ok(unsafe { Mmap::map(&file) }?)
}
