//! The first 64 bytes of the functions that are probed, as built by others: pyenv's interpreters
//! (no LTO), and those of Debian's packages `python3.N-minimal` of that version, of 2021 to
//! 2026. From Debian 13 on functions begin with `endbr64`.

use super::*;

struct Prologue {
    of: &'static str,
    machine: Machine,
    /// As hexadecimal digits.
    code: &'static str,
    /// Of the instruction that is to be chosen; `None` for the entry, single-stepped.
    place: Option<u64>,
}

#[test]
fn each_real_prologue_has_its_place() {
    for prologue in PROLOGUES {
        let code: Vec<u8> = prologue
            .code
            .as_bytes()
            .chunks(2)
            .map(|digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap())
            .collect();
        assert_eq!(code.len(), WINDOW_BYTES, "{}", prologue.of);
        let place = place(prologue.machine, &code);
        let wanted = prologue
            .place
            .map_or(Placement::ENTRY, Placement::emulated_at);
        assert_eq!(place, wanted, "{}", prologue.of);
    }
}

#[test]
fn only_a_single_stepped_place_is_warned_of() {
    assert_eq!(Placement::emulated_at(4).warning(), None);
    assert!(
        Placement::ENTRY
            .warning()
            .unwrap()
            .contains("single-stepped")
    );
}

const PROLOGUES: &[Prologue] = &[
    Prologue {
        of: "pyenv 3.8.18: datetime.now",
        machine: Machine::X86_64,
        code: "41554154554889d5534889fb4889f74889d64883ec284885c90f840101000048\
               0369104883ec084531c94c8d058f84000031d2488d442418506a006a01e8ce32",
        place: Some(0),
    },
    Prologue {
        of: "pyenv 3.8.18: sys.exc_info",
        machine: Machine::X86_64,
        code: "4883ec08488b05adcc1500488bb858050000e86970eaff488b48104885c97428\
               488b50084885d2742f488b304885f67436488d3d62910e0031c04883c408e9ed",
        place: Some(18),
    },
    Prologue {
        of: "pyenv 3.9.18: datetime.now",
        machine: Machine::X86_64,
        code: "41554154554889d5534889fb4889f74889d64883ec284885c90f840101000048\
               0369104883ec084531c94c8d05ff81000031d2488d442418506a006a01e83e30",
        place: Some(0),
    },
    Prologue {
        of: "pyenv 3.9.18: sys.exc_info",
        machine: Machine::X86_64,
        code: "4883ec08488b059dba1600488bb838020000e8298be7ff488b48104885c97428\
               488b50084885d2742f488b304885f67436488d3de2080f0031c04883c408e94d",
        place: Some(18),
    },
    Prologue {
        of: "pyenv 3.10.13: datetime.now",
        machine: Machine::X86_64,
        code: "41554154554889d5534889fb4889f74889d64883ec284885c90f841901000048\
               0369104883ec084531c94c8d053f7f000031d2488d442418506a006a01e8ae2d",
        place: Some(0),
    },
    Prologue {
        of: "pyenv 3.10.13: sys.exc_info",
        machine: Machine::X86_64,
        code: "4883ec08488b05f50a1700488bb838020000e859cbe5ff488b48104885c97428\
               488b50084885d2742f488b304885f67436488d3df6310f0031c04883c408e96d",
        place: Some(18),
    },
    Prologue {
        of: "pyenv 3.11.7: datetime.now",
        machine: Machine::X86_64,
        code: "41554154554889d5534889fb4889f74889d64883ec284885c90f841901000048\
               0369104883ec084531c94c8d05af79000031d2488d442418506a006a01e8fe27",
        place: Some(0),
    },
    Prologue {
        of: "pyenv 3.11.7: sys.exc_info",
        machine: Machine::X86_64,
        code: "4883ec08488b05a5f01900488bb840020000e80911e5ff4883c4084889c7e9fd\
               3de5ff66662e0f1f84000000000066904883ec08488b0575f01900488bb84002",
        place: Some(18),
    },
    Prologue {
        of: "pyenv 3.12.1: datetime.now",
        machine: Machine::X86_64,
        code: "415641554154554889d5534889fb4889f74889d64883ec204885c90f845f0100\
               00480369104883ec084531c94c8d054d80000031d2488d442410506a006a01e8",
        place: Some(0),
    },
    Prologue {
        of: "pyenv 3.12.1: sys.exc_info",
        machine: Machine::X86_64,
        code: "4883ec0866488d3dd4ba2500666648e8bc01e2ff488b38e874e9e1ff4883c408\
               4889c7e93818e2ff0f1f840000000000e92b13e2ff66662e0f1f840000000000",
        place: Some(23),
    },
    Prologue {
        of: "pyenv 3.13.0: datetime.now",
        machine: Machine::X86_64,
        code: "415641554154554889d5534889fb4889f74889d64883ec304885c90f84170100\
               00480369104883ec084531c94c8d054d98000031d2488d442418506a006a01e8",
        place: Some(0),
    },
    Prologue {
        of: "pyenv 3.13.0: sys.exc_info",
        machine: Machine::X86_64,
        code: "4883ec0866488d3d146e2400666648e87c42deff488b38e844e9faff4883c408\
               4889c7e9e8fbfaff0f1f840000000000e9bbfdfeff66662e0f1f840000000000",
        place: Some(23),
    },
    Prologue {
        of: "Debian 3.9.2-1: datetime.now",
        machine: Machine::X86_64,
        code: "41544989fc4889f74889d6555331db4883ec104885c97404488b59104801f348\
               85c975104885f6780b4883fe017f054885ff752c41504531c941b8004c930031",
        place: Some(0),
    },
    Prologue {
        of: "Debian 3.9.2-1: sys.exc_info",
        machine: Machine::X86_64,
        code: "4151488b3d9fa43200e872040000488b48104885c9741f488b50084885d2741d\
               488b304885f6741cbf8a10880031c04158e9aa60efffb9e0769000ebdabae076",
        place: Some(0),
    },
    Prologue {
        of: "Debian 3.11.2-6+deb12u9: datetime.now",
        machine: Machine::X86_64,
        code: "415455534889fb4889f74889d64883ec104885c974094c8b61104901d4eb1648\
               85d2780e4883fa017f084989d44885ff752f4989f441504531c941b8a016a500",
        place: Some(0),
    },
    Prologue {
        of: "Debian 3.11.2-6+deb12u9: sys.exc_info",
        machine: Machine::X86_64,
        code: "50488b3d983c3e00e843eafdff5a4889c7e94a030000662e0f1f840000000000\
               50bee91c8400e895b0efff5a4889c7e96c02000066662e0f1f84000000000090",
        place: Some(0),
    },
    Prologue {
        of: "Debian 3.13.5-2+deb13u5: datetime.now",
        machine: Machine::X86_64,
        code: "f30f1efa41544531e455534889fb4889f74889d64883ec204885c974044c8b61\
               104901f44885c975104885f6780b4883fe017f054885ff752e504531c941b840",
        place: Some(4),
    },
    Prologue {
        of: "Debian 3.13.5-2+deb13u5: sys.exc_info",
        machine: Machine::X86_64,
        code: "f30f1efa5553415164488b0425e8ffffff488b7878e8e6cafcff488b184885db\
               743a4881fbf084a0007431488b6b084889dfe8a90400004889c14885ed741641",
        place: Some(4),
    },
    Prologue {
        of: "Debian 3.14.10-1: datetime.now",
        machine: Machine::X86_64,
        code: "f30f1efa415641554989fd41544989d44889ca55534889f34883ec204885c974\
               064c8b7110eb1a4d85e479054531f6eb104983fc017ff54531f64885f6752deb",
        place: Some(4),
    },
    Prologue {
        of: "Debian 3.14.10-1: sys.exc_info",
        machine: Machine::X86_64,
        code: "f30f1efa4883ec1848891c2448896c240864488b0425e8ffffff488b7878e83d\
               2bf8ffbf03000000488b18e8f051d7ff4889c54885c0745a4885db746f4c8964",
        place: Some(30),
    },
    Prologue {
        of: "Debian 3.15.2-1: datetime.now",
        machine: Machine::X86_64,
        code: "f30f1efa554889e5415741564989fe41554989d54889ca4154534889f34883ec\
               284885c974064c8b7910eb1a4d85ed79054531ffeb104983fd017ff54531ff48",
        place: Some(4),
    },
    Prologue {
        of: "Debian 3.15.2-1: sys.exc_info",
        machine: Machine::X86_64,
        code: "f30f1efa554889e54883ec2048895de84c8965f064488b3c25e0ffffffe80e25\
               faffbf03000000488b18e8d191d6ff4989c44885c0745b4885db746c4c896df8",
        place: Some(4),
    },
    Prologue {
        of: "Debian 3.11.2-6+deb12u8, arm64: datetime.now",
        machine: Machine::Aarch64,
        code: "ff4301d1fd7b01a9fd430091f35302a9f40300aae00301aaf51b00f9e10302aa\
               830000b4730840f95300138b08000014c200f8b71f0000f1f30302aa401841fa",
        place: Some(32),
    },
    Prologue {
        of: "Debian 3.11.2-6+deb12u8, arm64: sys.exc_info",
        machine: Machine::Aarch64,
        code: "fd7bbfa9201f00b000600991fd030091000040f93656ff97fd7bc1a829000014\
               200040f9f3c7f8171f2003d5fd7bbea901ee8252fd030091f35301a9f30300aa",
        place: Some(4),
    },
];
