#include "CHosted.h"
