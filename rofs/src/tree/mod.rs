//! The tree that an image is built from: nodes with their metadata, and where the data of files is.

mod analyser;
mod content;
mod layers;

pub use analyser::{Analyser, Copied, Run};
pub use content::{Content, Opened};
pub use layers::{Layers, clean_path};

use crate::failure::{Failure, shown};
use crate::format::NAME_MAX;
use crate::read::FileKind;
use std::collections::BTreeMap;

/// A node's place in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) usize);

/// Extended attributes by their whole names.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What every node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permissions and set-id bits, without the kind.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification: seconds since the epoch.
    pub mtime: i64,
    /// And nanoseconds, below 1,000,000,000.
    pub mtime_ns: u32,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it stands for.
    pub node: NodeId,
    /// The layer that made it, or changed something beneath it.
    pub(crate) layer: u32,
}

/// What kind of file a node is, and what belongs to that.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A directory; its entries in the order of their bytes.
    Directory(BTreeMap<Vec<u8>, Entry>),
    /// A regular file.
    Regular(Content),
    /// A symbolic link's target.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind {
    /// The kind alone.
    pub const fn file_kind(&self) -> FileKind {
        match self {
            Self::Directory(_) => FileKind::Directory,
            Self::Regular(_) => FileKind::Regular,
            Self::Symlink(_) => FileKind::Symlink,
            Self::CharDevice { .. } => FileKind::CharDevice,
            Self::BlockDevice { .. } => FileKind::BlockDevice,
            Self::Fifo => FileKind::Fifo,
            Self::Socket => FileKind::Socket,
        }
    }
}

/// A file of a tree. One with several names stands in several directories.
#[derive(Clone, Debug)]
pub struct Node {
    /// Metadata.
    pub meta: Meta,
    /// Kind and content.
    pub kind: Kind,
}

/// A tree of files. Nodes that no directory names any more are not part of an image.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// The root directory.
    pub const ROOT: NodeId = NodeId(0);

    /// A tree of one empty directory.
    pub fn new(root: Meta) -> Self {
        Self { nodes: vec![Node { meta: root, kind: Kind::Directory(BTreeMap::new()) }] }
    }

    /// Adds a node that has no name yet.
    pub fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len().saturating_sub(1))
    }

    /// The node of an id of this tree.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0)
    }

    /// The node of an id of this tree, to be changed.
    pub fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.0)
    }

    /// All nodes, those without a name too.
    pub fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.iter_mut()
    }

    /// How many nodes there are, those without a name too.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node: never, since there is a root.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The entries of a directory; `None` if this is none.
    pub fn entries(&self, dir: NodeId) -> Option<&BTreeMap<Vec<u8>, Entry>> {
        match &self.node(dir)?.kind {
            Kind::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    /// The entries of a directory, to be changed.
    pub(crate) fn entries_mut(&mut self, dir: NodeId) -> Option<&mut BTreeMap<Vec<u8>, Entry>> {
        match &mut self.node_mut(dir)?.kind {
            Kind::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    /// What a name of a directory stands for.
    pub fn lookup(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        Some(self.entries(dir)?.get(name)?.node)
    }

    /// Names a node in a directory, instead of what had the name before. A directory must be named once only.
    ///
    /// # Errors
    /// [`Failure::Input`] if the name is none that a file can have, or `dir` is no directory.
    pub fn link(&mut self, dir: NodeId, name: &[u8], node: NodeId) -> Result<(), Failure> {
        self.link_in(dir, name, node, 0)
    }

    pub(crate) fn link_in(
        &mut self,
        dir: NodeId,
        name: &[u8],
        node: NodeId,
        layer: u32,
    ) -> Result<(), Failure> {
        let good = !name.is_empty()
            && name.len() <= NAME_MAX
            && !matches!(name, b"." | b"..")
            && !name.iter().any(|b| matches!(b, b'/' | 0));
        let Some(entries) = self.entries_mut(dir).filter(|_| good) else {
            return Err(Failure::input(
                shown(name),
                "not a name that a file can have",
                "names have 1 to 255 bytes, no slash and no NUL",
            ));
        };
        entries.insert(name.to_vec(), Entry { node, layer });
        Ok(())
    }

    /// Takes the names away for which `remove` says so, with their paths from the root, and what is beneath them.
    pub fn prune(&mut self, mut remove: impl FnMut(&[u8], FileKind) -> bool) {
        let mut waiting = vec![(Self::ROOT, Vec::new())];
        while let Some((dir, path)) = waiting.pop() {
            let Some(entries) = self.entries(dir) else { continue };
            let mut gone = Vec::new();
            for (name, entry) in entries {
                let mut child = path.clone();
                if !child.is_empty() {
                    child.push(b'/');
                }
                child.extend_from_slice(name);
                let Some(kind) = self.node(entry.node).map(|n| n.kind.file_kind()) else { continue };
                if remove(&child, kind) {
                    gone.push(name.clone());
                } else if kind == FileKind::Directory {
                    waiting.push((entry.node, child));
                }
            }
            if let Some(entries) = self.entries_mut(dir) {
                entries.retain(|name, _| gone.binary_search(name).is_err());
            }
        }
    }
}
