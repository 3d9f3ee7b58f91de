extension Frame {
  /// Copies the first octets, at most ``head`` of them.
  /// - Returns: how many.
  public func copy(to target: UnsafeMutableRawBufferPointer) -> Int {
    let count = min(head, target.count)
    bytes.withUnsafeBytes { buffer in
      // SAFETY: both hold `count` octets; a frame's buffer is its driver's alone, so they are apart.
      guard let from = buffer.baseAddress, let to = target.baseAddress else { return }
      to.copyMemory(from: from, byteCount: count)
    }
    return count
  }

  /// Writes octets into the frame; they must fit.
  @_lifetime(self: copy self)
  public mutating func put(_ source: UnsafeRawBufferPointer, at offset: Int) {
    precondition(offset >= 0 && source.count <= capacity - offset)
    bytes.withUnsafeMutableBytes { buffer in
      // SAFETY: the range lies in the buffer, as just checked.
      guard let to = buffer.baseAddress, let from = source.baseAddress else { return }
      (to + offset).copyMemory(from: from, byteCount: source.count)
    }
  }

  /// Takes over octets as the whole frame, at most ``capacity`` of them.
  @_lifetime(self: copy self)
  public mutating func fill(from source: UnsafeRawBufferPointer) {
    let count = min(capacity, source.count)
    bytes.withUnsafeMutableBytes { buffer in
      // SAFETY: as above.
      guard let to = buffer.baseAddress, let from = source.baseAddress else { return }
      to.copyMemory(from: from, byteCount: count)
    }
    setLength(count)
  }
}
