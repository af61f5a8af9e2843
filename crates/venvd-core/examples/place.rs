//! Places a venv of a root again and again: `place ROOT APP:TAG DIRECTORY [content]`, to `DIRECTORY/0`, `1`, … .
//!
//! For trying the crate by hand, and for a first figure; prints the seconds of each.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use venvd_app::Layout;
use venvd_app::links::VenvPath;
use venvd_core::place::{Material, place};
use venvd_core::relocate::move_to;
use venvd_core::store::{Check, Store};
use venvd_core::{Error as CoreError, Manifest};
use venvd_fs::beneath::Tree;
use venvd_fs::{IoContext, Root};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [root, name, directory, rest @ ..] = words.as_slice() else {
        return Err("usage: place ROOT APP:TAG DIRECTORY [content]".into());
    };
    let check = if rest.is_empty() {
        Check::Metadata
    } else {
        Check::Content
    };
    let layout = Layout::new(Root::at(Path::new(root).canonicalize()?));
    let from = layout.venv(&name.parse()?);
    for number in 0..7 {
        let tree = Path::new(directory).join(number.to_string());
        std::fs::create_dir_all(&tree)?;
        let start = Instant::now();
        let manifest = Manifest::load(&from)?;
        let source = Tree::open(&from)?;
        let store = Store::open(&layout)?;
        let target = VenvPath::local(&layout, format!("{}:other", manifest.app).parse()?);
        let mut read = |file: &venvd_core::manifest::File| {
            let path = from.join(&file.path);
            std::fs::read(&path).at("read", &path).map_err(CoreError::from)
        };
        let moved = move_to(&manifest, &target, &mut read)?;
        let material = Material {
            store: &store,
            check,
            source: Some(&source),
        };
        let prepared = start.elapsed();
        let placed = place(&moved, &tree, &material)?;
        eprintln!(
            "{:.3} s, {:.3} of it to prepare: {} shared, {} copied, {} damaged",
            start.elapsed().as_secs_f64(),
            prepared.as_secs_f64(),
            placed.shared,
            placed.copied.len(),
            placed.damaged
        );
    }
    Ok(())
}
