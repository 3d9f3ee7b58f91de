import Functions

extension Cards {
  /// What was never given out: a table that grows takes a new place before it leaves its old one.
  var freeMemory: Int { Int(Heap.remaining) }
}
