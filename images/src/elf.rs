//! What a program or library needs to be loaded: DT_NEEDED, its search path and its interpreter (elf(5), ld.so(8)).
//!
//! A file that is not ELF needs nothing; one that is and cannot be read is an error.

use object::{
    Endianness,
    elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_SONAME, FileHeader64, PT_INTERP},
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
