//! Where the files lie: in a repository's objects, or in a folder.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use gix::ObjectId;
use sha2::{Digest, Sha256};

use crate::catalog::{Catalog, File, Reason};
use crate::{folder, git};

/// Where the files lie. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Tree {
    Repository(Arc<gix::ThreadSafeRepository>),
    Folder(Arc<OwnedFd>),
}

/// The same, for one thread.
pub(crate) enum Opened {
    Repository(Box<gix::Repository>),
    Folder(folder::Files),
}

/// The hash of content, under which its facts are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Blob(ObjectId),
    Content([u8; 32]),
}

impl Hash {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Blob(id) => id.as_slice(),
            Self::Content(hash) => hash,
        }
    }
}

impl Tree {
    pub(crate) fn open(&self) -> Opened {
        match self {
            Self::Repository(repository) => Opened::Repository(Box::new(repository.to_thread_local())),
            Self::Folder(root) => Opened::Folder(folder::Files::new(root.clone())),
        }
    }
}

impl Opened {
    /// The file's content and its hash, computed from that very content: what a repository calls it is not believed,
    /// because others will find the facts under it.
    pub(crate) fn load(
        &mut self,
        catalog: &Catalog,
        file: &File,
        limit: usize,
    ) -> Result<(Hash, Vec<u8>), Reason> {
        let mut content = Vec::new();
        let hash = match (self, file.blob) {
            (Self::Repository(repository), Some(blob)) => {
                git::load(repository, blob, limit, &mut content)?;
                let hash = gix::objs::compute_hash(blob.kind(), gix::objs::Kind::Blob, &content);
                match hash {
                    Ok(hash) if hash == blob => Hash::Blob(blob),
                    _ => return Err(Reason::Unreadable),
                }
            }
            (Self::Folder(files), _) => {
                files.load(catalog, file, limit, &mut content)?;
                Hash::Content(Sha256::digest(&content).into())
            }
            (Self::Repository(_), None) => return Err(Reason::Unreadable),
        };
        // As git does it.
        if content[..content.len().min(8000)].contains(&0) {
            return Err(Reason::Binary);
        }
        Ok((hash, content))
    }
}
