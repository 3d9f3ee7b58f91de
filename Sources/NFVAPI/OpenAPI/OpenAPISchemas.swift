internal import NFVModel

/// The JSON schemas of bodies. Attributes of the standard that are not named here are taken and kept
/// where a request's description says so, and never given.
enum OpenAPISchemas {
  /// Not kept: it is wanted once, when the document is made.
  static var all: JSONValue { parsed(text) }

  /// A schema that stands in this program.
  static func parsed(_ text: String) -> JSONValue {
    guard let value = try? JSONReader.read(Array(text.utf8)) else {
      preconditionFailure("a schema is no JSON: \(text)")
    }
    return value
  }

  private static let text = #"""
    {
      "AnyObject": {"type": "object"},
      "Links": {
        "type": "object",
        "additionalProperties": {
          "type": "object", "required": ["href"], "properties": {"href": {"type": "string"}}
        }
      },
      "ProblemDetails": {
        "description": "SOL013 6.3: what, where, and what to do.",
        "type": "object", "required": ["title", "status", "detail"],
        "properties": {
          "title": {"type": "string"}, "status": {"type": "integer"},
          "detail": {"type": "string"}, "cause": {"type": "string"},
          "instance": {"type": "string"}
        }
      },
      "ApiVersionInformation": {
        "type": "object", "required": ["uriPrefix", "apiVersions"],
        "properties": {
          "uriPrefix": {"type": "string"},
          "apiVersions": {
            "type": "array",
            "items": {
              "type": "object", "required": ["version", "isDeprecated"],
              "properties": {"version": {"type": "string"}, "isDeprecated": {"type": "boolean"}}
            }
          }
        }
      },
      "Checksum": {
        "type": "object", "required": ["algorithm", "hash"],
        "properties": {"algorithm": {"type": "string"}, "hash": {"type": "string"}}
      },

      "CreateVnfPkgInfoRequest": {
        "type": "object", "properties": {"userDefinedData": {"type": "object"}}
      },
      "VnfPkgInfoModifications": {
        "type": "object", "additionalProperties": false,
        "properties": {
          "operationalState": {"type": "string", "enum": ["ENABLED", "DISABLED"]},
          "userDefinedData": {"type": "object"}
        }
      },
      "VnfPkgInfo": {
        "type": "object",
        "required": ["id", "onboardingState", "operationalState", "usageState", "_links"],
        "properties": {
          "id": {"type": "string"}, "vnfdId": {"type": "string"},
          "vnfProvider": {"type": "string"}, "vnfProductName": {"type": "string"},
          "vnfSoftwareVersion": {"type": "string"}, "vnfdVersion": {"type": "string"},
          "checksum": {"$ref": "#/components/schemas/Checksum"},
          "packageSecurityOption": {"type": "string"},
          "softwareImages": {"type": "array", "items": {"type": "object"}},
          "onboardingState": {
            "type": "string", "enum": ["CREATED", "UPLOADING", "PROCESSING", "ONBOARDED", "ERROR"]
          },
          "operationalState": {"type": "string", "enum": ["ENABLED", "DISABLED"]},
          "usageState": {"type": "string", "enum": ["IN_USE", "NOT_IN_USE"]},
          "vnfmInfo": {"type": "array", "items": {"type": "string"}},
          "userDefinedData": {"type": "object"},
          "onboardingFailureDetails": {"$ref": "#/components/schemas/ProblemDetails"},
          "org.martlet": {
            "type": "object",
            "properties": {
              "createdAt": {"type": "string", "format": "date-time"}, "size": {"type": "integer"},
              "flavours": {"type": "array", "items": {"type": "string"}}
            }
          },
          "_links": {"$ref": "#/components/schemas/Links"}
        }
      },

      "CreateVnfRequest": {
        "type": "object", "required": ["vnfdId"],
        "properties": {
          "vnfdId": {"type": "string"},
          "vnfInstanceName": {"type": "string", "nullable": true, "minLength": 1, "maxLength": 63},
          "vnfInstanceDescription": {"type": "string", "nullable": true},
          "metadata": {"type": "object", "nullable": true}
        }
      },
      "VnfInfoModificationRequest": {
        "description": "A merge patch (RFC 7396): null removes, objects are merged.",
        "type": "object", "additionalProperties": false,
        "properties": {
          "vnfInstanceName": {"type": "string", "nullable": true, "minLength": 1, "maxLength": 63},
          "vnfInstanceDescription": {"type": "string", "nullable": true},
          "vnfConfigurableProperties": {"type": "object", "nullable": true},
          "metadata": {"type": "object", "nullable": true},
          "extensions": {"type": "object", "nullable": true}
        }
      },
      "InstantiateVnfRequest": {
        "description": "More attributes of SOL003 are taken and kept in operationParams.",
        "type": "object",
        "properties": {
          "flavourId": {
            "type": "string", "nullable": true, "description": "By default the package's first."
          },
          "instantiationLevelId": {"type": "string", "nullable": true},
          "extVirtualLinks": {
            "type": "array", "nullable": true,
            "items": {
              "type": "object", "required": ["resourceId", "extCps"],
              "properties": {
                "id": {"type": "string", "nullable": true},
                "resourceId": {"type": "string", "description": "A network's name or identifier."},
                "extCps": {
                  "type": "array",
                  "items": {
                    "type": "object", "required": ["cpdId"],
                    "properties": {
                      "cpdId": {"type": "string"},
                      "cpConfig": {
                        "type": "object", "nullable": true,
                        "additionalProperties": {"$ref": "#/components/schemas/VnfExtCpConfig"}
                      }
                    }
                  }
                }
              }
            }
          },
          "additionalParams": {"type": "object", "nullable": true},
          "vnfConfigurableProperties": {"type": "object", "nullable": true},
          "extensions": {"type": "object", "nullable": true}
        }
      },
      "VnfExtCpConfig": {
        "type": "object",
        "properties": {
          "cpProtocolData": {
            "type": "array", "nullable": true,
            "items": {
              "type": "object",
              "properties": {
                "ipOverEthernet": {
                  "type": "object", "nullable": true,
                  "properties": {
                    "ipAddresses": {
                      "type": "array", "nullable": true,
                      "items": {
                        "type": "object",
                        "properties": {
                          "fixedAddresses": {
                            "type": "array", "nullable": true,
                            "items": {
                              "anyOf": [
                                {"type": "string", "format": "ipv4"},
                                {"type": "string", "format": "ipv6"}
                              ]
                            }
                          }
                        }
                      }
                    }
                  }
                }
              }
            }
          }
        }
      },
      "ScaleVnfRequest": {
        "type": "object", "required": ["type", "aspectId"],
        "properties": {
          "type": {"type": "string", "enum": ["SCALE_OUT", "SCALE_IN"]},
          "aspectId": {"type": "string"},
          "numberOfSteps": {"type": "integer", "nullable": true, "minimum": 1, "maximum": 10000}
        }
      },
      "ScaleVnfToLevelRequest": {
        "description": "A level of the package, or levels of aspects.",
        "type": "object",
        "properties": {
          "instantiationLevelId": {"type": "string"},
          "scaleInfo": {
            "type": "array", "minItems": 1,
            "items": {
              "type": "object", "required": ["aspectId", "scaleLevel"],
              "properties": {
                "aspectId": {"type": "string"}, "scaleLevel": {"type": "integer", "minimum": 0}
              }
            }
          }
        },
        "oneOf": [{"required": ["instantiationLevelId"]}, {"required": ["scaleInfo"]}]
      },
      "OperateVnfRequest": {
        "type": "object", "required": ["changeStateTo"],
        "properties": {
          "changeStateTo": {"type": "string", "enum": ["STARTED", "STOPPED"]},
          "stopType": {"type": "string", "nullable": true, "enum": ["FORCEFUL", "GRACEFUL", null]},
          "gracefulStopTimeout": {
            "type": "integer", "nullable": true, "minimum": 0, "maximum": 3600,
            "description": "Seconds."
          }
        }
      },
      "HealVnfRequest": {
        "type": "object",
        "properties": {
          "cause": {"type": "string", "nullable": true},
          "vnfcInstanceId": {
            "type": "array", "nullable": true, "items": {"type": "string"},
            "description": "Only these; all by default."
          }
        }
      },
      "TerminateVnfRequest": {
        "type": "object", "required": ["terminationType"],
        "properties": {
          "terminationType": {"type": "string", "enum": ["FORCEFUL", "GRACEFUL"]},
          "gracefulTerminationTimeout": {
            "type": "integer", "nullable": true, "minimum": 0, "maximum": 3600,
            "description": "Seconds."
          }
        }
      },
      "VnfInstance": {
        "type": "object",
        "required": [
          "id", "vnfdId", "vnfProvider", "vnfProductName", "vnfSoftwareVersion", "vnfdVersion",
          "instantiationState", "_links"
        ],
        "properties": {
          "id": {"type": "string"}, "vnfInstanceName": {"type": "string"},
          "vnfInstanceDescription": {"type": "string"}, "vnfdId": {"type": "string"},
          "vnfProvider": {"type": "string"}, "vnfProductName": {"type": "string"},
          "vnfSoftwareVersion": {"type": "string"}, "vnfdVersion": {"type": "string"},
          "instantiationState": {
            "type": "string", "enum": ["INSTANTIATED", "NOT_INSTANTIATED"]
          },
          "vnfConfigurableProperties": {"type": "object"},
          "metadata": {"type": "object"}, "extensions": {"type": "object"},
          "instantiatedVnfInfo": {
            "type": "object", "required": ["flavourId", "vnfState"],
            "properties": {
              "flavourId": {"type": "string"},
              "vnfState": {"type": "string", "enum": ["STARTED", "STOPPED"]},
              "scaleStatus": {"type": "array", "items": {"type": "object"}},
              "maxScaleLevels": {"type": "array", "items": {"type": "object"}},
              "extCpInfo": {"type": "array", "items": {"type": "object"}},
              "extVirtualLinkInfo": {"type": "array", "items": {"type": "object"}},
              "vnfcResourceInfo": {
                "type": "array",
                "items": {
                  "type": "object", "required": ["id", "vduId", "computeResource", "vnfcCpInfo"]
                }
              },
              "vnfVirtualLinkResourceInfo": {"type": "array", "items": {"type": "object"}}
            }
          },
          "org.martlet": {"type": "object"},
          "_links": {"$ref": "#/components/schemas/Links"}
        }
      },
      "VnfLcmOpOcc": {
        "type": "object",
        "required": [
          "id", "operationState", "stateEnteredTime", "startTime", "vnfInstanceId", "operation",
          "isAutomaticInvocation", "isCancelPending", "_links"
        ],
        "properties": {
          "id": {"type": "string"},
          "operationState": {
            "type": "string",
            "enum": [
              "STARTING", "PROCESSING", "COMPLETED", "FAILED_TEMP", "FAILED", "ROLLING_BACK",
              "ROLLED_BACK"
            ]
          },
          "stateEnteredTime": {"type": "string", "format": "date-time"},
          "startTime": {"type": "string", "format": "date-time"},
          "vnfInstanceId": {"type": "string"},
          "operation": {
            "type": "string",
            "enum": [
              "INSTANTIATE", "SCALE", "SCALE_TO_LEVEL", "CHANGE_FLAVOUR", "OPERATE", "HEAL",
              "TERMINATE", "MODIFY_INFO"
            ]
          },
          "isAutomaticInvocation": {"type": "boolean"}, "isCancelPending": {"type": "boolean"},
          "operationParams": {}, "error": {"$ref": "#/components/schemas/ProblemDetails"},
          "resourceChanges": {"type": "object"}, "changedInfo": {"type": "object"},
          "org.martlet": {
            "type": "object",
            "properties": {
              "actor": {"type": "string"},
              "phases": {
                "type": "array",
                "items": {
                  "type": "object",
                  "required": ["name", "subject", "startMicroseconds", "durationMicroseconds"],
                  "properties": {
                    "name": {"type": "string"}, "subject": {"type": "string"},
                    "startMicroseconds": {"type": "integer"},
                    "durationMicroseconds": {"type": "integer"}
                  }
                }
              }
            }
          },
          "_links": {"$ref": "#/components/schemas/Links"}
        }
      },

      "NetworkRequest": {
        "type": "object", "required": ["name"],
        "properties": {
          "name": {"type": "string", "pattern": "^[!-+\\-.0-<>-~]{1,63}$"},
          "subnets": {
            "type": "array", "nullable": true, "items": {"$ref": "#/components/schemas/Subnet"},
            "description": "At most one of each family; by default a free /24 of 10.64.0.0/10."
          },
          "routes": {
            "type": "array", "nullable": true, "items": {"$ref": "#/components/schemas/Route"}
          },
          "uplink": {
            "type": "string", "nullable": true, "pattern": "^(none|nat|routed|device:.+)$"
          },
          "mtu": {
            "type": "integer", "nullable": true, "minimum": 576, "maximum": 65535, "default": 1500
          }
        }
      },
      "Subnet": {
        "type": "object", "required": ["prefix"],
        "properties": {
          "prefix": {"type": "string"}, "gateway": {"type": "string", "nullable": true}
        }
      },
      "Route": {
        "type": "object", "required": ["destination", "via"],
        "properties": {"destination": {"type": "string"}, "via": {"type": "string"}}
      },
      "Network": {
        "type": "object",
        "required": ["id", "name", "hostId", "mtu", "subnets", "routes", "uplink", "ports"],
        "properties": {
          "id": {"type": "string"}, "name": {"type": "string"}, "hostId": {"type": "string"},
          "mtu": {"type": "integer"},
          "subnets": {"type": "array", "items": {"$ref": "#/components/schemas/Subnet"}},
          "routes": {"type": "array", "items": {"$ref": "#/components/schemas/Route"}},
          "uplink": {"type": "string"}, "vnfInstanceId": {"type": "string"},
          "ports": {"type": "integer"}
        }
      },
      "Usage": {
        "type": "object",
        "required": [
          "vnfcId", "incarnation", "workload", "cpuNanoseconds", "memoryBytes", "processes", "ports"
        ],
        "properties": {
          "vnfcId": {"type": "string"}, "incarnation": {"type": "integer"},
          "workload": {"type": "string"}, "cpuNanoseconds": {"type": "integer"},
          "guestCpuNanoseconds": {
            "type": "integer",
            "description": "What the guest's processors took of cpuNanoseconds, of a virtual machine."
          },
          "memoryBytes": {"type": "integer"}, "processes": {"type": "integer"},
          "ports": {"type": "array", "items": {"type": "object"}},
          "functionCounters": {
            "type": "array",
            "description": "What the function itself counts, where it has a control channel.",
            "items": {
              "type": "object", "required": ["name", "value"],
              "properties": {"name": {"type": "string"}, "value": {"type": "integer"}}
            }
          }
        }
      },
      "UsageOfAll": {
        "type": "object", "required": ["monotonicMilliseconds", "vnfcs"],
        "properties": {
          "monotonicMilliseconds": {
            "type": "integer",
            "description": "When it was read, by a clock that never goes back."
          },
          "vnfcs": {
            "type": "array",
            "items": {
              "allOf": [
                {"$ref": "#/components/schemas/Usage"},
                {
                  "type": "object",
                  "properties": {
                    "vnfInstanceId": {"type": "string"}, "vnfInstanceName": {"type": "string"},
                    "vduId": {"type": "string"}, "ordinal": {"type": "integer"},
                    "technology": {"type": "string"}, "memoryLimitBytes": {"type": "integer"}
                  }
                }
              ]
            }
          }
        }
      },
      "Info": {
        "type": "object",
        "required": ["version", "storeId", "hostId", "processId", "technologies", "accelerators"],
        "properties": {
          "version": {"type": "string"}, "storeId": {"type": "string"},
          "hostId": {"type": "string"}, "processId": {"type": "integer"},
          "technologies": {"type": "array", "items": {"type": "string"}},
          "accelerators": {"type": "object"},
          "pools": {
            "type": "array",
            "items": {
              "type": "object",
              "description": "Workloads of one kind that wait, started, to be claimed by a start.",
              "properties": {
                "tenant": {"type": "string"}, "technology": {"type": "string"},
                "image": {"type": "string"}, "ports": {"type": "integer"},
                "memoryLimitBytes": {"type": "integer"}, "size": {"type": "integer"},
                "waiting": {"type": "integer"},
                "memoryBytes": {
                  "type": "integer", "description": "What those that wait use now, together."
                }
              }
            }
          }
        }
      }
    }
    """#
}
