//! The kernel's heap: size classes over pages, larger pieces straight from the frame allocator.
//!
//! A page serves one class; its head holds the list of its free objects and their number, so that a page whose
//! objects are all free goes back to the frames.

use super::{alloc_kernel, free_kernel, gpa_of, physmap};
use crate::sync::SpinLock;
use abi::PAGE_SIZE;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

/// Sizes of the classes, bytes. Each is a multiple of 16.
const SIZES: [usize; 14] = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1344, 2016];
/// Bytes of a page's head.
const HEAD: usize = 64;

#[repr(C)]
struct PageHead {
    free: *mut FreeObject,
    used: u32,
    capacity: u32,
    next: *mut PageHead,
    prev: *mut PageHead,
}

#[repr(C)]
struct FreeObject {
    next: *mut FreeObject,
}

/// Pages of one class that have free objects.
struct Class {
    pages: *mut PageHead,
    /// Number of pages on the list that are wholly free: one is kept.
    empty: u32,
}

// SAFETY: the pointers are to kernel memory that the class's lock guards.
unsafe impl Send for Class {}

static CLASSES: [SpinLock<Class>; SIZES.len()] =
    [const { SpinLock::new(Class { pages: ptr::null_mut(), empty: 0 }) }; SIZES.len()];

/// The allocator, to be made the image's global one.
pub struct Heap;

fn class_of(layout: &Layout) -> Option<usize> {
    // Objects begin 64 bytes into the page, so only alignments up to 16 hold for every class.
    let size = if layout.align() <= 16 {
        layout.size()
    } else if layout.align() <= 64 {
        // A multiple of 64 from a start that is one keeps the alignment.
        let size = layout.size().next_multiple_of(64);
        return SIZES.iter().position(|s| *s >= size && s.is_multiple_of(64));
    } else {
        return None;
    };
    SIZES.iter().position(|s| *s >= size)
}

/// Largest allocation: 2^14 frames, 64 MiB.
const LARGEST: u8 = 14;

fn order_of(size: usize) -> u8 {
    let pages = size.div_ceil(PAGE_SIZE as usize).max(1);
    pages.next_power_of_two().trailing_zeros() as u8
}

impl Class {
    unsafe fn unlink(&mut self, page: *mut PageHead) {
        // SAFETY: `page` is on this class's list, under its lock.
        unsafe {
            if (*page).prev.is_null() {
                self.pages = (*page).next;
            } else {
                (*(*page).prev).next = (*page).next;
            }
            if !(*page).next.is_null() {
                (*(*page).next).prev = (*page).prev;
            }
        }
    }

    unsafe fn push(&mut self, page: *mut PageHead) {
        // SAFETY: `page` is of this class and on no list, under its lock.
        unsafe {
            (*page).prev = ptr::null_mut();
            (*page).next = self.pages;
            if !self.pages.is_null() {
                (*self.pages).prev = page;
            }
        }
        self.pages = page;
    }
}

fn alloc_object(class: usize) -> *mut u8 {
    let size = SIZES[class];
    loop {
        {
            let mut list = CLASSES[class].lock();
            let page = list.pages;
            if !page.is_null() {
                // SAFETY: pages on the list have a free object, and are guarded by the lock.
                unsafe {
                    let object = (*page).free;
                    (*page).free = (*object).next;
                    if (*page).used == 0 {
                        list.empty -= 1;
                    }
                    (*page).used += 1;
                    if (*page).free.is_null() {
                        list.unlink(page);
                    }
                    return object.cast();
                }
            }
        }
        let Some(page) = alloc_kernel(0) else { return ptr::null_mut() };
        let head = page.cast::<PageHead>();
        let capacity = (PAGE_SIZE as usize - HEAD) / size;
        // SAFETY: a fresh page; all objects lie in it.
        unsafe {
            let mut free: *mut FreeObject = ptr::null_mut();
            for i in (0..capacity).rev() {
                let object = page.add(HEAD + i * size).cast::<FreeObject>();
                (*object).next = free;
                free = object;
            }
            head.write(PageHead {
                free,
                used: 0,
                capacity: capacity as u32,
                next: ptr::null_mut(),
                prev: ptr::null_mut(),
            });
            let mut list = CLASSES[class].lock();
            list.push(head);
            list.empty += 1;
        }
    }
}

unsafe fn free_object(object: *mut u8, class: usize) {
    let page = physmap(gpa_of(object) & !(PAGE_SIZE - 1)).cast::<PageHead>();
    let give_back = {
        let mut list = CLASSES[class].lock();
        // SAFETY: the object came from this class, so its page's head is valid and guarded by the lock.
        unsafe {
            let object = object.cast::<FreeObject>();
            let was_full = (*page).free.is_null();
            (*object).next = (*page).free;
            (*page).free = object;
            (*page).used -= 1;
            if was_full {
                list.push(page);
            }
            if (*page).used == 0 {
                if list.empty > 0 {
                    list.unlink(page);
                    true
                } else {
                    list.empty += 1;
                    false
                }
            } else {
                false
            }
        }
    };
    if give_back {
        // SAFETY: all objects of the page are free and it is on no list.
        unsafe { free_kernel(page.cast(), 0) };
    }
}

// SAFETY: memory handed out is exclusive, large and aligned enough, and comes back by the same layout.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class_of(&layout) {
            Some(class) => alloc_object(class),
            // Blocks are aligned to their own size.
            None => {
                let order = order_of(layout.size().max(layout.align()));
                if order > LARGEST {
                    return ptr::null_mut();
                }
                alloc_kernel(order).unwrap_or(ptr::null_mut())
            }
        }
    }

    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        // SAFETY: the layout is the one that the object was allocated with.
        unsafe {
            match class_of(&layout) {
                Some(class) => free_object(object, class),
                None => free_kernel(object, order_of(layout.size().max(layout.align()))),
            }
        }
    }
}
