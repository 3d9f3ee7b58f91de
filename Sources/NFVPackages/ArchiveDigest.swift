internal import Crypto
public import NFVModel

/// The digest of a package's archive, `sha256:` and hexadecimal digits, and its size in octets.
public func archiveDigest(_ path: String) throws(NFVError) -> (digest: String, size: UInt64) {
  do {
    let file = try FileContent(path: path)
    var hash = SHA256()
    var size: UInt64 = 0
    while true {
      let piece = try file.next()
      if piece.isEmpty { break }
      hash.update(data: piece)
      size += UInt64(piece.count)
    }
    return ("sha256:" + hexadecimal(hash.finalize()), size)
  } catch {
    throw NFVError(.failed, "the archive \(path) cannot be read", cause: error)
  }
}
