internal import Glibc

// SAFETY: a locale object is never changed once made, and this one is never freed.
nonisolated(unsafe) private let utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", nil)

/// Runs with UTF-8 as this thread's encoding: libarchive takes names as the locale has them, and a
/// daemon's locale is C, where it cannot write any but ASCII names (archive_entry_paths(3)).
func inUTF8<T, E: Error>(_ body: () throws(E) -> T) throws(E) -> T {
  guard let utf8 else { return try body() }
  let before = uselocale(utf8)
  defer { uselocale(before) }
  return try body()
}
