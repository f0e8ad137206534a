//! Our way to the host.

use std::{
    fs::{self, File, OpenOptions},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::wire::{Frame, PORT};

/// Where the kernel lists virtio-serial ports by number, with their names.
const PORTS: &str = "/sys/class/virtio-ports";

/// How long the kernel may take to find the port.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The port, to be shared among threads.
#[derive(Clone)]
pub struct Port(Arc<Mutex<File>>);

/// Opens the port; it appears some time after its driver was loaded.
pub fn open() -> Result<Port, String> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(port) = find() {
            return Ok(port);
        }
        if Instant::now() > deadline {
            return Err(format!("there is no virtio port called {PORT}"));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn find() -> Option<Port> {
    fs::read_dir(PORTS).ok()?.flatten().find_map(|entry| {
        let name = fs::read_to_string(entry.path().join("name")).ok()?;
        if name.trim_end() != PORT {
            return None;
        }
        let device = Path::new("/dev").join(entry.file_name());
        let file = OpenOptions::new().write(true).open(device).ok()?;
        Some(Port(Arc::new(Mutex::new(file))))
    })
}

impl Port {
    /// Sends a frame. The host is all there is to tell of an error, and it has gone.
    pub fn send(&self, frame: &Frame) {
        if let Ok(mut file) = self.0.lock() {
            let _ = frame.write(&mut *file);
        }
    }
}
