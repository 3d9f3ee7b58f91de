import TestSupport
import Testing

/// What a run must not skip: a missing facility that is required runs its tests, which fail.
@Suite struct FacilityTests {
  @Test func whatIsRequiredIsNeverSkipped() {
    func isThere(_ name: String, partOf whole: String? = nil, where required: String) -> Bool {
      Facility(name, partOf: whole, required: required, false).isThere
    }
    #expect(isThere("root", where: "root,crun") && !isThere("skopeo", where: "root,crun"))
    #expect(isThere("kernel", partOf: "qemu", where: "root,qemu"))
    #expect(isThere("kernel", partOf: "qemu", where: "kernel"))
    #expect(!isThere("kernel", partOf: "qemu", where: "root,crun"))
    #expect(Facility("skopeo", required: "", true).isThere)
  }

  /// Under the name by which `.ci/run` requires it.
  @Test func machinesAreRequiredByOneName() {
    #expect(Facility.qemu.name == "qemu")
  }
}
