//! A file's name in a directory that is held open, and safe ways to write to that file.
//!
//! The command often runs as root and writes to directories that other users can write to. Three rules keep another
//! user from choosing which file is written or who can read it:
//! - A symbolic link is followed only if this process's user or root made it. The kernel has a weaker form of this
//!   rule, which is often switched off (`fs.protected_symlinks`, proc_sys_fs(5)).
//! - In a directory that others can write to, a file of another user is refused, unless that user owns the directory
//!   (`fs.protected_regular` and `fs.protected_fifos` are the kernel's rules of this kind). To append to a file that
//!   has a second name is refused too.
//! - A new file has mode 0600 and belongs to this process's user.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, PROC_SUPER_MAGIC, Stat, fchmod, fchown, fstat,
    fstatfs, openat, readlinkat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

/// The mode of a new file. Only its owner may read it, because events and tables show who communicates with whom.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// How many links are followed: as many as the kernel follows (path_resolution(7)).
const MOST_LINKS: u32 = 40;
/// How many random names are tried for a new file.
const MOST_NAMES: u32 = 8;
/// The owner that a user namespace shows for users that it does not know (`DEFAULT_OVERFLOWUID`, linux/highuid.h).
const UNKNOWN_USER: u32 = 65534;

/// A name in a directory that is held open, so that nobody can replace the directory.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    directory: OwnedFd,
    name: OsString,
    /// Whether the directory is in procfs, whose links only the kernel can follow (`/proc/self/fd/1`).
    is_in_proc: bool,
}

/// What a name refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nothing,
    RegularFile,
    /// A device, a named pipe, a socket or a directory.
    Other,
}

impl Place {
    /// Walks a path to its last name, link by link.
    ///
    /// # Errors
    ///
    /// A directory on the way does not exist or may not be searched, a link must not be followed, or the path does not
    /// end in a file's name.
    pub fn find(path: &Path) -> io::Result<Self> {
        let mut directory = open_directory(CWD, OsStr::new("."))?;
        let mut names = reversed_names(path);
        if is_directory_name(path) {
            return Err(Errno::ISDIR.into());
        }
        let mut link_count = 0;
        while let Some(name) = names.pop() {
            let is_last = names.is_empty();
            let is_in_proc = fstatfs(&directory)?.f_type == PROC_SUPER_MAGIC;
            if is_in_proc && !is_last {
                directory = open_directory(&directory, &name)?;
                continue;
            }
            let entry = match openat(&directory, &name, OFlags::PATH | NO_LINK, Mode::empty()) {
                Err(Errno::NOENT) if is_last => None,
                entry => Some(entry?),
            };
            let kind = match &entry {
                Some(entry) => FileType::from_raw_mode(fstat(entry)?.st_mode),
                None => FileType::Unknown,
            };
            match entry {
                Some(link) if kind == FileType::Symlink && !is_in_proc => {
                    link_count += 1;
                    if link_count > MOST_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    check_link(&directory, &link)?;
                    let target = readlinkat(&link, "", Vec::new())?;
                    names.extend(reversed_names(Path::new(OsStr::from_bytes(
                        target.as_bytes(),
                    ))));
                }
                Some(next) if !is_last => directory = open_directory(&next, OsStr::new("."))?,
                _ => {
                    return Ok(Self {
                        path: path.to_owned(),
                        directory,
                        name,
                        is_in_proc,
                    });
                }
            }
        }
        Err(Errno::ISDIR.into())
    }

    /// The path as it was given, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the name is in procfs, where no file can be replaced.
    pub fn is_kernels(&self) -> bool {
        self.is_in_proc
    }

    /// What the name refers to now.
    pub fn kind(&self) -> io::Result<Kind> {
        Ok(match self.stat()? {
            None => Kind::Nothing,
            Some(stat) if is_regular(&stat) => Kind::RegularFile,
            Some(_) => Kind::Other,
        })
    }

    /// The file that has the name now, if there is one.
    pub fn stat(&self) -> io::Result<Option<Stat>> {
        let flags = if self.is_in_proc {
            AtFlags::empty()
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        };
        match statat(&self.directory, &self.name, flags) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether both name the same file, which need not exist.
    pub fn is_same(&self, other: &Self) -> bool {
        let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
        let same_file = match (self.stat(), other.stat()) {
            (Ok(Some(one)), Ok(Some(other))) => identity(one) == identity(other),
            _ => false,
        };
        let same_name = match (fstat(&self.directory), fstat(&other.directory)) {
            (Ok(one), Ok(other_one)) => {
                identity(one) == identity(other_one) && self.name == other.name
            }
            _ => false,
        };
        same_file || same_name
    }

    /// Opens the file to append to it, and creates it if it does not exist. Opening a named pipe waits for its reader.
    pub fn append(&self) -> io::Result<File> {
        self.append_with(OFlags::empty())
    }

    /// Opens a regular file to append to it, and creates it if it does not exist. Anything else is an error. Never
    /// waits.
    pub fn append_to_regular_file(&self) -> io::Result<File> {
        let file = self.append_with(OFlags::NONBLOCK)?;
        if !is_regular(&fstat(&file)?) {
            return Err(io::Error::other("it is no longer a regular file"));
        }
        Ok(file)
    }

    fn append_with(&self, more: OFlags) -> io::Result<File> {
        let mut flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOCTTY | more;
        flags |= if self.is_in_proc {
            OFlags::CLOEXEC
        } else {
            NO_LINK
        };
        let file = openat(&self.directory, &self.name, flags, MODE)?;
        let stat = fstat(&file)?;
        self.check_owner(&stat)?;
        if is_regular(&stat) && stat.st_nlink > 1 && self.is_open_to_others()? {
            return Err(refusal(
                "the file has a second name (a hard link), and other users can write to its directory",
            ));
        }
        Ok(File::from(file))
    }

    /// Creates a new file, which can replace the one of this name.
    pub fn begin_replacement(self: &Rc<Self>) -> io::Result<Replacement> {
        self.check_replaceable()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | NO_LINK;
        for _ in 0..MOST_NAMES {
            let name = format!(".nlring-{:016x}.tmp", random());
            match openat(&self.directory, &name, flags, MODE) {
                Err(Errno::EXIST) => {}
                file => {
                    return Ok(Replacement {
                        file: File::from(file?),
                        place: Rc::clone(self),
                        name: Some(name),
                    });
                }
            }
        }
        Err(Errno::EXIST.into())
    }

    /// Returns the file that would be replaced, if there is one, or an error if it must not be replaced.
    fn check_replaceable(&self) -> io::Result<Option<Stat>> {
        let former = self.stat()?;
        match &former {
            Some(former) if FileType::from_raw_mode(former.st_mode) == FileType::Symlink => Err(
                refusal("what has the name now is a symbolic link, made after the start"),
            ),
            Some(former) if !is_regular(former) => {
                Err(refusal("what has the name now is not a regular file"))
            }
            Some(stat) => {
                self.check_owner(stat)?;
                Ok(former)
            }
            None => Ok(None),
        }
    }

    /// Refuses a file that another user may have put there to be written to.
    fn check_owner(&self, stat: &Stat) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let can_be_planted = matches!(kind, FileType::RegularFile | FileType::Fifo);
        let directory = fstat(&self.directory)?;
        let is_owners = stat.st_uid == directory.st_uid && stat.st_uid != UNKNOWN_USER;
        if !can_be_planted || is_trusted(stat.st_uid) || is_owners || !others_can_write(&directory)
        {
            return Ok(());
        }
        Err(refusal(format!(
            "it belongs to another user (uid {}), in a directory that other users can write to",
            stat.st_uid
        )))
    }

    /// Whether another user can make, rename or replace files in the directory.
    fn is_open_to_others(&self) -> io::Result<bool> {
        let directory = fstat(&self.directory)?;
        Ok(others_can_write(&directory) || !is_trusted(directory.st_uid))
    }
}

/// A new file with a temporary name. If it is dropped before the file is in its place, it removes the file.
#[derive(Debug)]
pub struct Replacement {
    file: File,
    place: Rc<Place>,
    /// The temporary name. None: the file is in its place.
    name: Option<String>,
}

impl Replacement {
    /// Replaces the old file atomically. The new file belongs to this process's user. If the old file belonged to the
    /// same user, the new one gets its mode and group, so that its readers can still read it. Otherwise its mode is
    /// 0600.
    pub fn put_in_place(mut self) -> io::Result<()> {
        let place = &self.place;
        let own = fstat(&self.file)?;
        if let Some(former) = place.check_replaceable()?
            && former.st_uid == own.st_uid
            && former.st_nlink == 1
        {
            if former.st_gid != own.st_gid {
                fchown(&self.file, None, Some(Gid::from_raw(former.st_gid)))?;
            }
            fchmod(&self.file, Mode::from_raw_mode(former.st_mode & 0o777))?;
        }
        if let Some(name) = &self.name {
            renameat(&place.directory, name, &place.directory, &place.name)?;
        }
        self.name = None;
        Ok(())
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            let _ = unlinkat(&self.place.directory, name, AtFlags::empty());
        }
    }
}

/// Checks that a path can be that of a table, without looking at the file.
pub fn check_table_path(path: PathBuf) -> Result<PathBuf, String> {
    if path.as_os_str() == "-" {
        return Err(
            "the table replaces a file, so it cannot go to standard output; \
             give the name of a file (./- for one of that name)"
                .to_owned(),
        );
    }
    if is_directory_name(&path) {
        return Err(
            "that is a directory, and the table is a file; give the name of one in it".to_owned(),
        );
    }
    Ok(path)
}

/// `O_NOFOLLOW`: opens the name itself, even if it is a link.
const NO_LINK: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

fn open_directory(parent: impl std::os::fd::AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

/// Whether a path can only be that of a directory.
fn is_directory_name(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.") || path.file_name().is_none()
}

/// The names of a path in reverse order. The name of the root is `/`.
fn reversed_names(path: &Path) -> Vec<OsString> {
    let names = path.components().rev();
    names
        .filter(|name| *name != Component::CurDir)
        .map(|name| name.as_os_str().to_owned())
        .collect()
}

/// Refuses a link that another user made.
fn check_link(directory: &OwnedFd, link: &OwnedFd) -> io::Result<()> {
    let (directory, owner) = (fstat(directory)?, fstat(link)?.st_uid);
    // In a user namespace, root's links in root's directories look like this.
    let is_unknown = owner == UNKNOWN_USER && !others_can_write(&directory);
    if is_trusted(owner) || is_unknown {
        return Ok(());
    }
    Err(refusal(format!(
        "a symbolic link on the way belongs to another user (uid {owner}): give the path that it leads to"
    )))
}

fn is_trusted(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}

fn others_can_write(directory: &Stat) -> bool {
    directory.st_mode & 0o022 != 0
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn refusal(reason: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, reason.into())
}

/// A number that others cannot predict, because the standard library gives each of these hashers a new random key.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
