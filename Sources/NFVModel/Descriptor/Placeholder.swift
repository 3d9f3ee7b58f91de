/// Replaced by the package reader's descriptor.
public struct VnfDescriptor: Sendable, Hashable, Codable {}
