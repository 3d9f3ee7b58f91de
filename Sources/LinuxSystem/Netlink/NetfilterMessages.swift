internal import SystemPackage

/// Requests of nfnetlink to nftables that are on the way of a port: elements of named sets. Tables
/// and rules are made once per fabric by the `nft` program.
extension NetlinkMessage {
  public struct NetfilterSet: Sendable, Hashable {
    /// NFPROTO_BRIDGE is 7.
    public var family: UInt8
    public var table: String
    public var name: String

    public init(family: UInt8, table: String, name: String) {
      self.family = family
      self.table = table
      self.name = name
    }
  }

  /// A batch that adds or deletes set elements, all or none.
  /// - Parameter keys: by set; each part of a key padded to a multiple of 4 octets.
  public static func setElements(
    _ keys: [(set: NetfilterSet, key: [UInt8])], isDeletion: Bool
  ) -> [Self] {
    // `struct nfgenmsg`: the resource is the subsystem nftables, in network order.
    var batch = [Self(type: 0x10, fixed: [0, 0, 0, 10])]
    for (set, key) in keys {
      var message = Self(
        type: 10 << 8 | (isDeletion ? 14 : 12), flags: isDeletion ? 0 : 0x400,
        fixed: [set.family, 0, 0, 0])
      message.attribute(1, set.table)
      message.attribute(2, set.name)
      message.nested(3 | 0x8000) { list in
        list.nested(1 | 0x8000) { element in
          element.nested(1 | 0x8000) { $0.attribute(1, key) }
        }
      }
      batch.append(message)
    }
    batch.append(Self(type: 0x11, fixed: [0, 0, 0, 10]))
    return batch
  }
}

extension NetlinkSocket {
  /// Adds elements to sets; those that are there already are no error.
  public func add(
    _ keys: [(set: NetlinkMessage.NetfilterSet, key: [UInt8])]
  ) throws(SystemError) {
    guard !keys.isEmpty else { return }
    try requestBatch(NetlinkMessage.setElements(keys, isDeletion: false))
  }

  /// Removes elements; those that are not there are no error.
  public func remove(
    _ keys: [(set: NetlinkMessage.NetfilterSet, key: [UInt8])]
  ) throws(SystemError) {
    // One by one: in a batch the first that is not there would keep all others.
    for key in keys {
      do throws(SystemError) {
        try requestBatch(NetlinkMessage.setElements([key], isDeletion: true))
      } catch  where error.errno == .noSuchFileOrDirectory {}
    }
  }
}
