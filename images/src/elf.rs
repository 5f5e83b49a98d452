//! What a program or library needs to be loaded: DT_NEEDED, its search path and its interpreter (elf(5), ld.so(8)).
//!
//! A file that is not ELF needs nothing; one that is and cannot be read is an error.

use crate::names::Arch;
use object::{
    Endianness,
    elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_SONAME, EM_AARCH64, EM_X86_64, FileHeader64, PT_INTERP},
    read::elf::{Dyn, FileHeader, ProgramHeader},
};

/// The dynamic linking information of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dynamic {
    pub(crate) needed: Vec<String>,
    pub(crate) soname: Option<String>,
    /// Directories of DT_RUNPATH and DT_RPATH as they are written, `$ORIGIN` included.
    pub(crate) search: Vec<String>,
    pub(crate) interpreter: Option<String>,
}

/// Whether `data` is a program for another architecture; what is not ELF is for none.
pub(crate) fn is_foreign(data: &[u8], arch: Arch) -> bool {
    let wanted = match arch {
        Arch::Amd64 => EM_X86_64,
        Arch::Arm64 => EM_AARCH64,
    };
    let machine = FileHeader64::<Endianness>::parse(data).ok().and_then(|header| Some(header.e_machine(header.endian().ok()?)));
    machine.is_some_and(|machine| machine != wanted)
}

/// Reads `data`; none when it is not an ELF file, an error when it is a damaged one.
pub(crate) fn read(data: &[u8]) -> Result<Option<Dynamic>, String> {
    if !data.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    let header = FileHeader64::<Endianness>::parse(data).map_err(|e| e.to_string())?;
    let endian = header.endian().map_err(|e| e.to_string())?;
    let mut dynamic = Dynamic::default();
    for segment in header.program_headers(endian, data).map_err(|e| e.to_string())? {
        if segment.p_type(endian) == PT_INTERP {
            let path = segment.interpreter(endian, data).map_err(|e| e.to_string())?;
            dynamic.interpreter = path.map(|path| String::from_utf8_lossy(path).into_owned());
        }
    }
    let sections = header.sections(endian, data).map_err(|e| e.to_string())?;
    let Some((entries, link)) = sections.dynamic(endian, data).map_err(|e| e.to_string())? else {
        return Ok(Some(dynamic));
    };
    let strings = sections.strings(endian, data, link).map_err(|e| e.to_string())?;
    for entry in entries {
        let text = || entry.string(endian, strings).map(|text| String::from_utf8_lossy(text).into_owned()).map_err(|e| e.to_string());
        match entry.tag32(endian) {
            Some(DT_NEEDED) => dynamic.needed.push(text()?),
            Some(DT_SONAME) => dynamic.soname = Some(text()?),
            Some(DT_RPATH | DT_RUNPATH) => dynamic.search.extend(text()?.split(':').map(str::to_owned)),
            _ => {}
        }
    }
    Ok(Some(dynamic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_another_architecture_are_told() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let (host, other) = match Arch::host().unwrap() {
            Arch::Amd64 => (Arch::Amd64, Arch::Arm64),
            Arch::Arm64 => (Arch::Arm64, Arch::Amd64),
        };
        assert!(!is_foreign(&own, host) && is_foreign(&own, other));
        assert!(!is_foreign(b"#!/bin/sh", other));
    }
}
